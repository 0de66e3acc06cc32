"""Forward models inside of posterior methods: the exact posterior mean of Gaussian data, refusals
before the first call of the network, and nothing that waits for a device."""

from __future__ import annotations

import pytest
import torch
from operator_table import LINEAR, NONLINEAR, dense, draw
from problems import F64

from fewstep.checks import ArgumentError
from fewstep.guidance import MMPS, Gaussian, PiGDM, operators, solve
from fewstep.models import BaseDenoiser, GaussianMixture
from fewstep.schedules import VPLinear

T, STD, NOISE = 0.4, 0.5, 0.2


MODELS = ("blur, separable zero", "fourier, real", "fourier, coils", "radon", "stack")


@pytest.mark.parametrize(
    ("name", "method"), [*((n, "pigdm") for n in LINEAR), *((n, "mmps") for n in MODELS)]
)
def test_the_prediction_is_the_posterior_mean_of_gaussian_data(name, method):
    case, den = (
        LINEAR[name],
        GaussianMixture(torch.zeros(1, *LINEAR[name].shape), STD, [1.0], VPLinear()),
    )
    y = case.operator.simulate(draw(1, *case.shape, seed=3), NOISE)
    own = Gaussian(case.operator, y[0], NOISE)
    x, node = draw(2, *case.shape), den.schedule.node(T)
    # x0 given x_t is N(mean, r2 I)
    r2 = STD**2 * node.sigma**2 / (node.alpha**2 * STD**2 + node.sigma**2)
    mean = (r2 * node.alpha / node.sigma**2 * x).flatten(1)
    matrix = dense(case)
    gram = r2 * matrix @ matrix.T + NOISE**2 * torch.eye(len(matrix), dtype=F64)
    lost = y.flatten(1) - mean @ matrix.T
    exact = mean + r2 * torch.linalg.solve(gram, lost.T).T @ matrix
    made = PiGDM(den, own, STD, 80) if method == "pigdm" else MMPS(den, own, len(matrix) + 5)
    assert torch.allclose(made(x, T).flatten(1), exact, atol=1e-8)


class Untouched(BaseDenoiser):
    """A model that must not be called."""

    prediction, schedule = "eps", VPLinear()

    def __init__(self, shape):
        self.shape = shape

    def raws(self, x_in, t, cond=None, channels=("main",)):
        raise AssertionError("the network was called")

    def coefficients(self, t, channel="main"):
        return 0.0, (1.0,)


op, NAN = operators, float("nan")
REFUSED = {
    "size": (lambda: op.SuperResolution(3), torch.zeros(1, 2, 2), 0.1, "does not divide"),
    "mask": (lambda: op.Inpaint(torch.ones(4, 5)), torch.zeros(1, 4, 5), 0.1, "does not fit"),
    "mirror": (
        lambda: op.Blur.gaussian(3.0, boundary="reflect"),
        torch.zeros(1, 8, 8),
        0.1,
        "larg",
    ),
    "channels": (lambda: op.Colourisation(), torch.zeros(1, 8, 8), 0.1, "3 channels"),
    "complex": (lambda: op.Fourier(torch.ones(8, 8)), torch.zeros(2, 8, 8), 0.1, "takes samples"),
    "image": (lambda: op.Radon(6, 4), torch.zeros(1, 4, 8), 0.1, "6 x 6"),
    "elements": (lambda: op.CompressedSensing((4, 4), 3), torch.zeros(3), 0.1, "have shape"),
    "measurement": (lambda: op.SuperResolution(2), torch.zeros(1, 8, 8), 0.1, "y has shape"),
    "NaN": (lambda: op.SuperResolution(2), torch.full((1, 4, 4), NAN), 0.1, "NaN"),
    "noise": (lambda: op.SuperResolution(2), torch.zeros(1, 4, 4), -0.1, "sigma_y"),
    "function": (lambda: lambda x: x @ torch.ones(3), torch.zeros(1, 8), 0.1, "does not take"),
    "gradient": (lambda: op.JPEG(50, gradient="none"), torch.zeros(1, 8, 8), 0.1, "enkg"),
    "filled": (
        lambda: op.Inpaint.half((8, 8)),
        torch.ones(1, 8, 8),
        0.1,
        "values where nothing is observed",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_before_the_first_call(name):
    make, y, sigma_y, match = REFUSED[name]
    with pytest.raises(ArgumentError, match=match):
        solve(Untouched((1, 8, 8)), Gaussian(make(), y, sigma_y), "mmps", steps=2)


META = torch.device("meta")


#: torch has no sparse matrices on ``meta``
DENSE = [name for name in LINEAR if not name.startswith("radon")]


@pytest.mark.parametrize("name", [*DENSE, *(f"not linear: {n}" for n in NONLINEAR)])
def test_nothing_is_read_from_the_device(name):
    """The numbers of a tensor on ``meta`` cannot be read."""
    case = NONLINEAR[name[12:]] if name.startswith("not linear: ") else LINEAR[name]
    op, x = case.operator, torch.zeros(2, *case.shape, device=META)
    y = op(x)
    assert y.device == META and y.shape[1:] == op.measured(case.shape)
    if op.invertible:
        assert op.pinverse(y).device == META
    if op.linear:
        assert op.adjoint(y).device == META
    if op.solvable:
        assert op.prox(x, y, 0.5).shape == x.shape
        scale = torch.ones((2, *(1,) * (y.ndim - 1)), device=META)
        assert op.gram_solve(y, scale, 0.1).shape == y.shape


def test_what_is_kept_can_be_differentiated_later():
    for make in (lambda: operators.Radon(4, 3), lambda: operators.Blur.gaussian(0.5)):
        op, x = make(), draw(1, 4, 4)
        with torch.inference_mode():
            op(x)
        leaf = x.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(op(leaf).square().sum(), leaf)
        assert torch.allclose(slope, 2.0 * op.adjoint(op(x)), atol=1e-12)

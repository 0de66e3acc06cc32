"""DPS and DiffPIR with gradients from values of the operator alone."""

from __future__ import annotations

import pytest
import torch
from gradient_free import NOISE, blurred, masked, measured, prior
from posteriors import A, GaussianPrior, Y
from problems import F64, GRIDS, PATHS

import fewstep
from fewstep import guidance as G
from fewstep.checks import ArgumentError
from fewstep.models import GaussianMixture

KINDS = {"vp": "eps", "edm": "x0", "flow": "velocity"}
OPTIONS = {"dps_gsg": {"zeta": 0.3}, "diffpir_gsg": {"bound": 1.6}}


def black(x):
    """A function that automatic differentiation cannot follow."""
    return torch.from_numpy(x.detach().numpy() @ A.numpy().T)


def likelihood(noise=NOISE):
    return G.Gaussian(black, Y, noise)


def states():
    return 2.0 * torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=F64)


@pytest.mark.parametrize("form", ["central", "forward"])
def test_it_is_nearly_the_method_with_derivatives(form):
    """The error of one direction is about sqrt(d + 1) |grad|; it falls with their number."""
    x, t = states(), 0.4
    right = G.DPS(prior(), G.Gaussian(G.operators.Matrix(A), Y, NOISE))(x, t)
    d = GaussianPrior(PATHS["vp"], "x0")(x, t)
    for count, most in ((200, 0.35), (4000, 0.1)):
        made = G.DPSGSG(prior(), likelihood(), directions=count, form=form)
        away = (made(x, t) - right).norm() / (d - right).norm()
        assert float(away) < most


def test_many_steps_of_diffpir_reach_the_proximal_map():
    x, t = states(), 0.4
    right = G.DiffPIR(prior(), G.Gaussian(G.operators.Matrix(A), Y, 0.5), lam=2.0)(x, t)
    d = GaussianPrior(PATHS["vp"], "x0")(x, t)
    off = []
    for k in (1, 30):
        made = G.DiffPIRGSG(
            prior(), likelihood(0.5), lam=2.0, iterations=k, bound=1.6, directions=500
        )
        off.append(float((made(x, t) - right).norm() / (d - right).norm()))
    assert off[1] < 0.2 and off[1] < 0.5 * off[0]


@pytest.mark.parametrize("method", OPTIONS)
@pytest.mark.parametrize("name", KINDS)
def test_few_steps_cost_what_is_predicted(name, method):
    for form, values in (("central", 5), ("forward", 3)):
        for steps in (1, 2, 3):
            den = prior(PATHS[name], KINDS[name])
            x, info = G.solve(
                den, likelihood(), method, steps=steps, n=3, dtype=F64, grid=GRIDS[name], info=True,
                directions=40, form=form, **OPTIONS[method],
            )  # fmt: skip
            assert bool(torch.isfinite(x).all()) and info.counts == info.predicted
            started = steps - (name == "flow")
            assert info.counts.operator == values * started and info.counts.adjoint == 0
            assert info.counts.vjp == (started if method == "dps_gsg" else 0)


@pytest.mark.parametrize("method", OPTIONS)
def test_samples_do_not_depend_on_the_batch(method):
    means = torch.randn(2, 1, 4, 4, dtype=F64, generator=torch.Generator().manual_seed(7))
    den = GaussianMixture(means, 0.3, [0.5, 0.5], PATHS["vp"], "eps")
    operator = G.operators.Inpaint.random((4, 4), 0.5)
    y = operator(torch.cat([means, means[:1]]))
    given = {"steps": 3, "grid": "lam", "dtype": F64, "directions": 8}
    every = G.solve(den, G.Gaussian(operator, y, 0.1), method, seeds=[5, 6, 7], **given)
    for i in range(3):
        one = G.solve(den, G.Gaussian(operator, y[i], 0.1), method, seeds=[5 + i], **given)
        assert torch.equal(every[i : i + 1], one)


def test_the_law_of_diffpir():
    """Near that of DiffPIR itself, with lam = 1 and zeta = .1."""
    options = {"lam": 1.0, "zeta": 0.1}
    e_m, e_c, q = measured(
        masked(NOISE), "diffpir_gsg", 50, n=500, directions=64, form="forward", **options
    )
    assert e_m < 0.2 and e_c < 0.4 and 0.7 < q < 1.4


def test_dps_pulls_towards_the_measurement():
    """As far as with derivatives."""
    misfits = []
    for method, zeta in (("dps", 0.0), ("dps", 5.0), ("dps_gsg", 5.0)):
        _, info = G.solve(
            prior(), blurred(), method, zeta=zeta, steps=15, n=50, dtype=F64, info=True
        )
        misfits.append(float(info.misfit.mean()))
    assert misfits[1] < 0.6 * misfits[0] and misfits[2] == pytest.approx(misfits[1], rel=0.1)


def test_what_is_refused():
    den = prior()
    for method, given, options, match in (
        ("diffpir_gsg", likelihood(), {}, "give bound="),
        ("diffpir_gsg", masked(), {}, "such as ddnm"),
        ("dps_gsg", likelihood(), {"form": "backward"}, "form"),
        ("dps_gsg", likelihood(), {"directions": 0}, "directions"),
    ):
        with pytest.raises(ArgumentError, match=match):
            G.solve(den, given, method, **options)
    assert den.calls == 0


def test_operators_without_derivative_are_taken():
    rounded = G.operators.Quantisation(levels=8, gradient="none")
    y = rounded(0.3 * torch.ones(1, 6, dtype=F64))[0]
    with pytest.raises(ArgumentError, match="dps_gsg"):
        G.solve(prior(), G.Gaussian(rounded, y, 0.1), "dps", steps=2)
    x = fewstep.sample(
        G.DPSGSG(prior(), G.Gaussian(rounded, y, 0.1), mu=0.3), "ddim", steps=3, n=2, dtype=F64
    )
    assert bool(torch.isfinite(x).all())

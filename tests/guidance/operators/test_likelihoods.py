"""Likelihoods: densities, gradients, rows, and which methods take them."""

from __future__ import annotations

import pytest
import torch
from operator_table import draw
from problems import F64

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import (
    DPS,
    MMPS,
    Constraint,
    DPSStep,
    Gaussian,
    PiGDM,
    Poisson,
    PriorCovariance,
    ProbConserv,
    operators,
    solve,
)
from fewstep.models import GaussianMixture

SHAPE = (1, 6, 6)
BLUR = operators.Blur.gaussian(0.8, 5)
MASK = operators.Inpaint.random((6, 6), 0.5, seed=1)
X = draw(3, *SHAPE).clamp(-0.9, 0.9)
#: likelihoods of one measurement, of samples (1, 6, 6)
MADE = {
    "gaussian": Gaussian(BLUR, BLUR(X[:1])[0], 0.3),
    "gaussian, mask": Gaussian(MASK, MASK.simulate(X[:1], 0.2)[0], 0.2),
    "gaussian, magnitudes": Gaussian(operators.PhaseRetrieval(), torch.ones(1, 12, 12), 0.4),
    "poisson": Poisson(BLUR, Poisson.simulate(BLUR, X[:1], 3.0)[0], 3.0),
    "poisson, mask": Poisson(MASK, Poisson.simulate(MASK, X[:1], 2.0)[0], 2.0),
    "poisson, magnitudes": Poisson(
        operators.PhaseRetrieval(), Poisson.simulate(operators.PhaseRetrieval(), X[:1], 5.0)[0], 5.0
    ),
}


@pytest.fixture(params=MADE)
def likelihood(request):
    return MADE[request.param]


@pytest.mark.parametrize("shift", [0.0, -3.0])  # darker than black: beyond the law of counts
def test_the_gradient_is_that_of_the_log_probability(likelihood, shift):
    x = (X + shift).requires_grad_(True)
    value = likelihood.log_prob(x)
    assert value.shape == (3,) and value.dtype == F64
    (exact,) = torch.autograd.grad(value.sum(), x)
    found = likelihood.gradient(x.detach())
    assert found.shape == x.shape and bool(torch.isfinite(found).all())
    assert torch.allclose(found, exact, atol=1e-9)


def test_gaussian_equals_torch():
    found = MADE["gaussian"].log_prob(X)
    law = torch.distributions.Normal(BLUR(X), 0.3)
    assert torch.allclose(found, law.log_prob(MADE["gaussian"].y).flatten(1).sum(1), atol=1e-9)
    own = MADE["gaussian, mask"]
    kept = MASK.mask.expand(SHAPE)
    law = torch.distributions.Normal(X[:, kept], 0.2)
    assert torch.allclose(own.log_prob(X), law.log_prob(own.y[kept]).sum(1), atol=1e-9)


def test_poisson_equals_torch():
    own = MADE["poisson"]
    law = torch.distributions.Poisson(3.0 * BLUR(X + 1.0))
    exact = law.log_prob((3.0 * own.y).round()).flatten(1).sum(1)
    assert float(3.0 * BLUR(X + 1.0).min()) > own.floor
    assert torch.allclose(own.log_prob(X), exact, atol=1e-9)


def test_unobserved_places_say_nothing():
    own = MADE["poisson, mask"]
    hidden = ~MASK.mask
    assert not own.gradient(X)[:, 0, hidden].any()
    moved = torch.where(hidden, X + 1.0, X)
    assert torch.equal(own.log_prob(moved), own.log_prob(X))


def test_counts_have_the_mean_and_variance_of_the_law():
    x = torch.tensor([[-0.5, 0.0, 1.0]], dtype=F64).expand(20_000, 3)
    y = Poisson.simulate(operators.Inpaint(torch.ones(3)), x, gain=4.0, seed=1)
    mean = torch.tensor([0.5, 1.0, 2.0], dtype=F64)
    assert torch.allclose(y.mean(0), mean, atol=0.02)
    assert torch.allclose(y.var(0), mean / 4.0, rtol=0.05)
    assert torch.allclose((4.0 * y).round(), 4.0 * y, atol=1e-12)


def test_below_the_floor_the_law_goes_on_along_its_tangent():
    own = Poisson(operators.Inpaint(torch.ones(2)), torch.tensor([2.0, 0.0]), 1.0, 0.0)
    rates = torch.tensor([[-1.0, -1.0], [0.0, 0.0], [0.05, 0.05], [0.2, 0.2]], dtype=F64)
    slopes = own.gradient(rates)
    assert torch.allclose(slopes[:, 0], torch.tensor([19.0, 19.0, 19.0, 9.0], dtype=F64))
    assert torch.allclose(slopes[:, 1], torch.tensor([0.0, -1.0, -1.0, -1.0], dtype=F64))
    steps = own.log_prob(rates).diff()
    assert torch.allclose(steps[0], torch.tensor(19.0, dtype=F64))  # 2 counts; none says nothing
    assert torch.allclose(steps[1], torch.tensor(0.05 * 18.0, dtype=F64))


def test_rows_are_followed():
    y = Poisson.simulate(BLUR, X, 3.0)
    own = Poisson(BLUR, y, 3.0)
    assert own.samples(SHAPE) == 3
    rows = torch.tensor([2, 0])
    assert torch.allclose(own.select(rows).log_prob(X[rows]), own.log_prob(X)[rows], atol=1e-12)
    assert torch.allclose(own.select(rows).gradient(X[rows]), own.gradient(X)[rows], atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_data_follow_the_state(likelihood, dtype):
    found = likelihood.gradient(X.to(dtype))
    exact = likelihood.gradient(X.to(dtype).double())
    assert found.dtype == torch.float32 and torch.allclose(found.double(), exact, atol=1e-3)


def den(schedule=None):
    return GaussianMixture(
        torch.zeros(1, *SHAPE), 0.5, [1.0], schedule or fewstep.schedules.VPLinear()
    )


@pytest.mark.parametrize("name", ["gaussian", "poisson"])
def test_dps_with_the_score_takes_every_law(name):
    own, d = MADE[name], den()
    made = DPS(d, own, loss="score", zeta=0.5)
    x, t = draw(2, *SHAPE).requires_grad_(True), 0.3
    node = d.schedule.node(t)
    x0 = _x0(d, x, t)
    (pull,) = torch.autograd.grad(own.log_prob(x0).sum(), x)
    exact = x0 + 0.5 * node.sigma**2 / node.alpha * pull
    assert torch.allclose(made(x.detach(), t), exact, atol=1e-9)


def _x0(d, x, t):
    node = d.schedule.node(t)
    return (x - node.sigma * d(x, t)) / node.alpha


def test_counts_pull_the_samples():
    truth = torch.full((1, *SHAPE), 0.6, dtype=F64)
    y = Poisson.simulate(MASK, truth, 50.0, seed=2)[0]
    x, info = solve(
        den(), Poisson(MASK, y, 50.0), "dps", loss="score", zeta=0.1, steps=40, n=8, info=True
    )
    assert info.counts == info.predicted
    seen = x[:, 0, MASK.mask]
    assert abs(float(seen.mean()) - 0.6) < 0.2 and float(info.misfit.mean()) < 3.0
    assert abs(float(x[:, 0, ~MASK.mask].mean())) < 0.15  # the prior's


@pytest.mark.parametrize("make", [MMPS, PiGDM, DPS, DPSStep, ProbConserv])
def test_methods_for_gaussian_noise_refuse_counts(make):
    with pytest.raises(ArgumentError, match="is for Gaussian noise"):
        make(den(), MADE["poisson"])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: PriorCovariance(den(), MADE["poisson"], torch.ones(SHAPE)), "Gaussian noise"),
        (lambda: Poisson(BLUR, torch.full(SHAPE, torch.nan)), "NaN"),
        (lambda: Poisson(BLUR, torch.full(SHAPE, -1.0)), "negative"),
        (lambda: Poisson(BLUR, torch.ones(SHAPE), 0.0), "gain"),
        (lambda: Poisson(BLUR, torch.ones(SHAPE), floor=0.0), "floor"),
        (lambda: Poisson(BLUR, torch.ones(2, 2)).samples(SHAPE), "y has shape"),
        (lambda: Poisson(MASK, torch.ones(SHAPE)).samples(SHAPE), "zero-filled"),
        (lambda: Poisson.simulate(BLUR, X - 3.0), "negative values"),
        (lambda: Constraint(BLUR, BLUR(X)[0]).log_prob(X), "no density"),
        (lambda: Constraint(BLUR, BLUR(X)[0]).gradient(X), "no density"),
        (lambda: DPS(den(), Constraint(BLUR, BLUR(X)[0]), loss="score"), "divides by sigma_y"),
    ],
)
def test_bad_input_is_refused(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()

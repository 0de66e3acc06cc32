"""CDIM: the moments of the residual, projections, and what they cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gradient_free import law, masked
from posteriors import MU, NOISE, TRUTH, A, D, GaussianPrior, Y, errors, posterior
from problems import F64, PATHS

import fewstep
from fewstep import guidance as G
from fewstep.checks import ArgumentError
from fewstep.guidance.posterior.cdim import Moments
from fewstep.guidance.posterior.gram_traces import gram_traces

VP = PATHS["vp"]
GIVEN: dict[str, Any] = {"dtype": F64, "grid": "uniform", "info": True}


def prior(path: str = "vp") -> GaussianPrior:
    return GaussianPrior(PATHS[path], {"vp": "eps", "edm": "x0", "flow": "velocity"}[path])


@pytest.mark.parametrize(("alpha", "sigma"), [(0.3, 0.91**0.5), (0.9, 0.19**0.5), (1.0, 2.0)])
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.6])
def test_the_moments_are_those_of_draws(noise, alpha, sigma):
    """x0 fixed, y and the state drawn anew: 1 % of the mean; of the variance 2 %, of which the
    draws are 1 %. y says of x0 what it does on average, so the formula is averaged over it."""
    g = torch.Generator().manual_seed(5)
    count = 200_000
    eps = torch.randn(count, D, generator=g, dtype=F64)
    y = TRUTH @ A.T + noise * torch.randn(count, 3, generator=g, dtype=F64)
    r = ((alpha * TRUTH + sigma * eps) @ A.T - y).square().sum(1)
    gram = A @ A.T
    ones = torch.ones(count, dtype=F64)
    parts = (
        3.0 * ones,
        gram.trace() * ones,
        gram.square().sum() * ones,
        y.square().sum(1),
        (y @ A).square().sum(1),
    )
    found = Moments.of(torch.stack(parts), noise, alpha, sigma)
    assert float(found.mean.mean()) == pytest.approx(float(r.mean()), rel=0.01)
    assert float(found.variance.mean()) == pytest.approx(float(r.var()), rel=0.02)


@pytest.mark.parametrize(
    "operator",
    [
        G.operators.Matrix(torch.randn(4, 36, generator=torch.Generator().manual_seed(0)).double()),
        G.operators.Inpaint(torch.arange(36).reshape(1, 6, 6) % 3 > 0),
        G.operators.SuperResolution(2),
        G.operators.Blur.gaussian(0.7),
        G.operators.Blur(torch.rand(3, 3, generator=torch.Generator().manual_seed(1)), "reflect"),
    ],
    ids=["matrix", "mask", "pool", "blur", "reflect"],
)
def test_traces_are_those_of_the_matrix(operator):
    shape = (1, 6, 6)
    rows = torch.eye(36, dtype=F64).reshape(36, *shape)
    a = operator(rows).flatten(1).T
    gram = a @ a.T
    first, second = gram_traces(operator, shape)
    assert float(first) == pytest.approx(float(gram.trace()), rel=1e-8)
    assert float(second) == pytest.approx(float(gram.square().sum()), rel=1e-8)


def test_many_measurements_are_traced_by_random_signs():
    operator = G.operators.Blur(torch.tensor([[0.1, 0.2], [0.3, 0.4]]), "reflect")
    first, second = gram_traces(operator, (1, 36, 36))
    exact, more = gram_traces(operator, (1, 30, 30))
    assert float(first) == pytest.approx(float(exact) * 1.44, rel=0.1)
    assert float(second) == pytest.approx(float(more) * 1.44, rel=0.1)


@pytest.mark.parametrize(("path", "noise"), [("vp", 0.0), ("vp", NOISE), ("flow", NOISE)])
def test_the_residual_is_below_the_bound_after_every_step_but_the_last(path, noise):
    den = prior(path)
    lik = G.Gaussian(A, Y, noise) if noise else G.Constraint(A, Y)
    seen: list[tuple[Any, Any]] = []
    G.solve(
        den, lik, "cdim", n=16, steps=12, dtype=F64, grid="uniform", projections=200,
        callback=lambda step: seen.append((step.next_node, step.x_next.clone())),
    )  # fmt: skip
    method = G.CDIM(den, lik)
    for node, x in seen[:-1]:
        found = method.moments(node.alpha, node.sigma)
        bound = found.mean + 0.1 * found.variance.sqrt()
        assert bool(((x @ A.T - Y).square().sum(1) <= bound * 1.0001).all())
    assert len(seen) == 12


def test_a_projection_ends_at_the_bound_by_the_least_root():
    """One projection by hand."""
    den, lik = prior(), G.Gaussian(A, Y, NOISE)
    method = G.CDIM(den, lik, projections=1)
    states: list[Any] = []

    def watch(step: Any) -> Any:
        before = step.x_next.clone()
        after = method.on_step(step)
        states.append((step.next_node, before, after))
        return after

    fewstep.sample(
        method, "ddim", steps=4, seeds=range(6), grid="uniform", dtype=F64, callback=watch
    )
    moved = 0
    for node, before, after in states[:-1]:
        found = method.moments(node.alpha, node.sigma)
        bound = found.mean + 0.1 * found.variance.sqrt()
        leaf = before.clone().requires_grad_(True)
        d = MU + (leaf - node.alpha * MU) @ den.gain(node.t).T
        (g,) = torch.autograd.grad((d @ A.T - Y).square().sum(), leaf)
        for i in range(6):
            c, step = before[i] @ A.T - Y, g[i] @ A.T
            if float(c @ c) <= float(bound):
                assert torch.equal(after[i], before[i])
                continue
            moved += 1
            inside = (c @ step) ** 2 - (step @ step) * (c @ c - bound)
            eta = (c @ step - inside.clamp_min(0.0).sqrt()) / (step @ step)
            assert torch.allclose(after[i], before[i] - eta.clamp_min(0.0) * g[i], atol=1e-9)
    assert moved > 6


def test_stopping_early_changes_no_bit_and_the_cost_is_foretold_without():
    den, lik = prior(), G.Gaussian(A, Y, NOISE)
    given = {"steps": 6, "seeds": range(4), "projections": 3, **GIVEN}
    x, info = G.solve(den, lik, "cdim", **given)
    calls = den.calls
    full, whole = G.solve(den, lik, "cdim", early=False, **given)
    assert torch.equal(x, full)
    assert info.predicted is None and calls == info.counts.network
    assert whole.counts == whole.predicted == type(whole.counts)(6 + 15, 15, 5 * 7, 15)
    assert info.counts.network <= whole.counts.network


def test_without_projections_it_is_ddim():
    den, lik = prior(), G.Gaussian(A, Y, NOISE)
    x, info = G.solve(den, lik, "cdim", steps=5, n=3, projections=0, **GIVEN)
    alone = fewstep.sample(den, "ddim", steps=5, n=3, dtype=F64, grid="uniform")
    assert torch.allclose(x, alone, atol=1e-12) and info.counts == info.predicted


def test_its_samples_are_near_the_posterior():
    """Reference, on another draw, 50 steps: (.049, .095, 1.07) for c = .1, (.052, .21, 1.16) for
    c = 1, in 156 and 61 projections. Measured with 1000 samples: (.384, .188, 1.06) and (.522,
    .275, 1.15): A has a singular value of .15 here, which 20 projections do not reach; other draws
    have e_m .05 to .32. The calls are those of the sample that needs most."""
    den, lik = prior(), G.Gaussian(A, Y, NOISE)
    found = {}
    for c in (0.1, 1.0):
        x, info = G.solve(den, lik, "cdim", c=c, steps=50, n=200, **GIVEN)
        found[c] = (errors(x.mean(0), x.T.cov(), posterior()), info.counts.vjp)
        assert float((x @ A.T - Y).square().sum(1).mean()) < 2.5 * 3 * NOISE**2
    (tight, more), (wide, fewer) = found[0.1], found[1.0]
    assert 0.25 < tight[0] < 0.5 and 0.1 < tight[1] < 0.3 and 0.95 < tight[2] < 1.15
    assert tight[0] < wide[0] < 0.7 and tight[1] < wide[1] < 0.4 and tight[2] < wide[2] < 1.3
    assert more > 2 * fewer > 100


def test_a_mask_without_noise():
    """The unobserved half; the last step is not projected, unless it is asked for."""
    den, lik = prior(), masked()
    rms = []
    for end in (False, True):
        x, _ = G.solve(den, lik, "cdim", steps=50, n=100, end=end, **GIVEN)
        rms.append(float((x[:, :3] - TRUTH[:3]).square().mean().sqrt()))
    mean, cov = law(lik)
    found = errors(x[:, 3:].mean(0), x[:, 3:].T.cov(), (mean[3:], cov[3:, 3:]))
    assert 1e-4 < rms[0] < 0.05 and rms[1] < 1e-12  # reference 1.1e-2
    assert found[0] < 0.3 and found[1] < 0.4 and 0.8 < found[2] < 1.3


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"c": -1.0}, "c="),
        ({"projections": -1}, "projections"),
        ({"end": True}, "noise"),
        ({"likelihood": G.Gaussian(lambda x: x**2, MU, 0.1)}, "linear"),
        ({"sampler": "heun"}, "several calls a step"),
        ({"sampler": "ode45"}, "plan"),
    ],
)
def test_bad_input_is_refused_before_the_first_call(change, match):
    den = prior()
    given = {"likelihood": G.Gaussian(A, Y, NOISE), **change}
    with pytest.raises(ArgumentError, match=match):
        G.solve(den, given.pop("likelihood"), "cdim", **given)
    assert den.calls == 0

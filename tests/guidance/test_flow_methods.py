"""FlowDPS and PnP-Flow: steps that take the data from a step towards the measurement."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from gradient_free import blurred, law, masked
from posteriors import A, GaussianPrior, Y, errors
from problems import F64

import fewstep
from fewstep import guidance as G
from fewstep.checks import ArgumentError
from fewstep.schedules import EDM, Flow, VPLinear

KINDS = {"flow": (Flow(), "velocity"), "vp": (VPLinear(), "eps"), "edm": (EDM(0.002, 80.0), "x0")}


def prior(path: str = "flow") -> GaussianPrior:
    return GaussianPrior(*KINDS[path])


def law_of(lik: Any, method: str, steps: int, hidden: bool, n: int = 400, **options: Any) -> Any:
    """e_m, e_C and q of n samples on the straight path."""
    x, info = G.solve(
        prior(), lik, method, steps=steps, n=n, dtype=F64, grid="uniform", info=True, **options
    )
    assert info.counts == info.predicted and info.counts.vjp == 0
    part = slice(3, 6) if hidden else slice(None)
    m, c = law(lik)
    return errors(x[:, part].mean(0), x[:, part].T.cov(), (m[part], c[part, part]))


def stepped(x: Any, zs: Any, rule: Any) -> Any:
    """The published loop on the straight path, ``rule(x, t, s, z)`` from t to s."""
    times = torch.linspace(1.0, 0.0, 5, dtype=F64).tolist()
    for t, s, z in zip(times[:-1], times[1:], [*zs, None], strict=True):
        x = rule(x, t, s, z)
    return x


@pytest.mark.parametrize("step", ["squared", "norm"])
def test_the_published_steps_of_flow_dps(step):
    """By hand: z0 - zeta grad, mixed with sigma, and noise of which sqrt(sigma) is kept."""
    den, lik = prior(), G.Constraint(A, Y)
    x0 = torch.randn(3, 6, dtype=F64)
    zs = [torch.randn(3, 6, dtype=F64) for _ in range(3)]

    def rule(x: Any, t: float, s: float, z: Any) -> Any:
        v = den(x, t)
        clean, noise = x - t * v, x + (1.0 - t) * v
        data = clean
        for _ in range(2):
            leaf = data.clone().requires_grad_(True)
            r = (leaf @ A.T - Y).norm(dim=1)
            loss = r.sum() if step == "norm" else 0.5 * r.square().sum()
            data = leaf.detach() - 0.3 * torch.autograd.grad(loss, leaf)[0]
        data = (1.0 - t) * clean + t * data
        if s == 0.0:
            return data
        return (1.0 - s) * data + s * (math.sqrt(s) * noise + math.sqrt(1.0 - s) * z)

    method = G.FlowDPS(den, lik, zeta=0.3, iterations=2, step=step)
    grid = fewstep.grid("uniform", den.schedule, 4)
    plan = method.plan(grid)
    assert plan.exactness == "exact" and grid.times == (1.0, 0.75, 0.5, 0.25, 0.0)
    mine = fewstep.run(plan, method, x0, noise=dict(enumerate(zs)))
    assert torch.allclose(mine, stepped(x0, zs, rule), atol=1e-10)


@pytest.mark.parametrize("samples", [1, 2])
def test_the_published_steps_of_pnp_flow(samples):
    """By hand: the data step of length (1 - t)^power at the next time, then noise, then the model;
    the first call, from noise alone, is one."""
    den, lik = prior(), G.Constraint(A, Y)
    zs = [torch.randn(3, 6, dtype=F64) for _ in range(3 * samples)]
    x0 = torch.randn(3, 6, dtype=F64)
    x = x0 - den(x0, 1.0)
    for i, s in enumerate((0.75, 0.5, 0.25)):
        z = x - 0.4 * s**0.5 * (x @ A.T - Y) @ A
        states = [(1.0 - s) * z + s * zs[i * samples + k] for k in range(samples)]
        x = sum(state - s * den(state, s) for state in states) / samples
    method = G.PnPFlow(den, lik, zeta=0.4, power=0.5, samples=samples)
    plan = method.plan(fewstep.grid("uniform", den.schedule, 4))
    assert plan.nfe == 1 + 3 * samples
    mine = fewstep.run(plan, method, x0, noise=dict(enumerate(zs)))
    assert torch.allclose(mine, x, atol=1e-10)


@pytest.mark.parametrize("path", KINDS)
@pytest.mark.parametrize("method", ["flow_dps", "pnp_flow"])
def test_few_steps_on_every_path(method, path):
    for steps in (1, 2, 3):
        den = prior(path)
        x, info = G.solve(den, masked(), method, steps=steps, n=3, dtype=F64, info=True)
        assert torch.isfinite(x).all() and den.calls == info.nfe
        assert info.counts == info.predicted
    nfe = {"flow_dps": 12, "pnp_flow": 11}[method]
    _, info = G.solve(prior(path), masked(), method, nfe=12, dtype=F64, info=True)
    assert info.nfe == nfe  # a budget: PnP-Flow has 5 calls a step


def test_flow_dps_has_the_mean_behind_a_mask():
    """Measured with 500 samples: (.037, .29, .73); the blur, which has small singular values and
    noise that is not used: (.59, 1.54, 2.46)."""
    e_m, e_c, q = law_of(masked(), "flow_dps", 100, True)
    assert e_m < 0.12 and 0.2 < e_c < 0.4 and 0.6 < q < 0.9
    assert law_of(blurred(), "flow_dps", 40, False)[1] > 2.0 * e_c


def test_pnp_flow_reconstructs_and_does_not_sample():
    """Measured with 500 samples: (.023, .90, .11) with a mean over 5 noises, (.037, .50, .52)
    with 1."""
    five = law_of(masked(), "pnp_flow", 50, True, n=200)
    one = law_of(masked(), "pnp_flow", 50, True, n=200, samples=1)
    assert five[0] < 0.12 and five[2] < 0.2 < 0.4 < one[2] < 0.7


def test_they_are_denoisers_of_their_data_step():
    den, x = prior(), torch.randn(3, 6, dtype=F64)
    clean = x - 0.5 * den(x, 0.5)
    full = G.FlowDPS(den, masked(), zeta=1.0, iterations=1)
    keep = torch.arange(6) < 3
    assert torch.allclose(full(x, 1.0)[:, keep], masked().y[keep].expand(3, 3))
    half = 0.5 * (clean[:, keep] + masked().y[keep])
    assert torch.allclose(full(x, 0.5)[:, keep], half)
    assert torch.allclose(full(x, 0.5)[:, ~keep], clean[:, ~keep])


@pytest.mark.parametrize(
    ("method", "change", "match"),
    [
        ("flow_dps", {"zeta": 0.0}, "zeta"),
        ("flow_dps", {"iterations": 0}, "iterations"),
        ("flow_dps", {"step": "l2"}, "step"),
        ("flow_dps", {"sampler": "heun"}, "makes its own steps"),
        ("pnp_flow", {"zeta": 0.0}, "zeta"),
        ("pnp_flow", {"samples": 0}, "samples"),
        ("pnp_flow", {"power": -1.0}, "power"),
        ("pnp_flow", {"sampler": "ddim"}, "makes its own steps"),
        ("pnp_flow", {"likelihood": G.Poisson(A, Y.abs())}, "Gaussian noise"),
    ],
)
def test_bad_input_is_refused_before_the_first_call(method, change, match):
    den = prior()
    given = {"likelihood": G.Gaussian(A, Y, 0.1), **change}
    with pytest.raises(ArgumentError, match=match):
        G.solve(den, given.pop("likelihood"), method, **given)
    assert den.calls == 0

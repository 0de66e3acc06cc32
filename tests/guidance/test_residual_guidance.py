"""Guidance by residuals of equations: as denoisers, and as DiffusionPDE publishes it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from posteriors import A, D, GaussianPrior, Y
from problems import F64, PATHS

import fewstep
from fewstep import guidance as G
from fewstep.checks import ArgumentError

#: a linear equation: the second difference of the six values is f
L = torch.zeros(4, D, dtype=F64)
for _i in range(4):
    L[_i, _i : _i + 3] = torch.tensor([1.0, -2.0, 1.0], dtype=F64)
F = torch.tensor([0.1, -0.2, 0.3, 0.0], dtype=F64)
MEASURED = G.Gaussian(A, Y, 0.1)


def equation(u: Any) -> Any:
    return u @ L.T - F


def states(count: int = 4) -> Any:
    return 2.0 * torch.randn(count, D, generator=torch.Generator().manual_seed(1), dtype=F64)


def same(a: Any, b: Any) -> bool:
    return torch.allclose(a, b, atol=1e-12, rtol=0.0)


@pytest.mark.parametrize("name", ["vp", "edm"])
def test_a_linear_equation_is_dps(name):
    den, x = GaussianPrior(PATHS[name]), states()
    t = den.schedule.t_of_lam(0.5)
    mine = G.Residual(den, G.Loss(equation, 0.7))
    assert same(mine(x, t), G.DPS(den, G.Gaussian(L, F, 0.1), zeta=0.7)(x, t))
    seeds = range(3)
    runs = [
        G.solve(den, what, method, sampler="heun", steps=6, seeds=seeds, dtype=F64, **more)
        for what, method, more in (
            (G.Loss(equation, 0.7), "residual", {}),
            (G.Gaussian(L, F, 0.1), "dps", {"zeta": 0.7}),
        )
    ]
    assert same(*runs)


def test_losses_add_up_each_sample_by_itself():
    den, x = GaussianPrior(PATHS["vp"]), states()
    t = den.schedule.t_of_lam(0.5)
    node = den.schedule.node(t)
    losses = [
        G.Loss(MEASURED, 0.5),
        G.Loss(equation, lambda rho: 2.0 * rho, space=lambda d: 3.0 * d, norm="squared"),
    ]
    leaf = x.clone().requires_grad_(True)
    d = den(leaf, t)
    total = 0.5 * (Y - d @ A.T).norm(dim=1) + 2.0 * node.rho * equation(3.0 * d).square().sum(1)
    by_x, by_d = torch.autograd.grad(total.sum(), (leaf, d))
    r2 = node.sigma**2 / (node.alpha**2 + node.sigma**2)
    assert same(G.Residual(den, losses)(x, t), d - r2 * node.alpha * by_x)
    through = G.Residual(den, losses, wrt="D")
    assert same(through(x, t), d - r2 * by_d)
    assert same(through(x[2:3], t), through(x, t)[2:3])
    assert through.cost(t).vjp == 0 and through.counts.vjp == 0


def test_losses_change_at_the_switch():
    """The equation counts after 80 % of the steps, as the published recipe has it."""
    den = GaussianPrior(PATHS["edm"])
    seen: list[int] = []

    def watched(u: Any) -> Any:
        seen.append(1)
        return equation(u)

    losses = [G.Loss(MEASURED, 0.5, late=0.1), G.Loss(watched, 1.0, early=0.0)]
    x, info = G.solve(den, losses, "residual", sampler="ddim", steps=10, dtype=F64, info=True)
    late = [i for i in range(10) if i > 0.8 * 10]
    assert len(seen) - 1 == len(late) == 1  # once more for the misfit
    assert info.counts == info.predicted == type(info.counts)(10, 10, 11, 11)
    assert info.misfit.shape == (1, 2) and torch.isfinite(x).all()
    g = G.Residual(den, losses)
    assert not g.joinable
    with pytest.raises(ArgumentError, match="sampler with a plan"):
        fewstep.sample(g, "ode45", n=1, dtype=F64)


def by_hand(den: Any, x: Any, sigmas: Any, weights: tuple[float, float]) -> Any:
    """DiffusionPDE's loop as its page has it, for alpha = 1."""
    n = len(sigmas) - 1
    for i, (s, t) in enumerate(pairwise(sigmas)):
        x = x.detach().requires_grad_(True)
        last = den(x, s)
        slope = (x - last) / s
        after = x + (t - s) * slope
        if t > 0.0:
            last = den(after, t)
            after = x + (t - s) * 0.5 * (slope + (after - last) / t)
        observed = weights[0] * (Y - last @ A.T).norm(dim=1)
        total = (
            observed if i <= 0.8 * n else 0.1 * observed + weights[1] * equation(last).norm(dim=1)
        )
        (push,) = torch.autograd.grad(total.sum(), x)
        x = after - push
    return x.detach()


def test_the_published_loop():
    den = GaussianPrior(PATHS["edm"], "eps")
    losses = [G.Loss(MEASURED, 0.02, late=0.1), G.Loss(equation, 0.05, early=0.0)]
    grid = fewstep.grid("karras", den.schedule, 12)
    start = 80.0 * states(3)
    x, info = G.solve(den, losses, "diffusion_pde", reference=0.0, grid=grid, x=start, info=True)
    right = by_hand(GaussianPrior(PATHS["edm"]), start, grid.times, (0.02, 0.05))
    assert torch.allclose(x, right, atol=1e-9)
    assert info.sampler == "heun"
    assert info.counts == info.predicted and info.counts.network == den.calls == 23
    scaled = G.solve(den, losses, "diffusion_pde", reference=24.0, grid=grid, x=start)
    twice = by_hand(GaussianPrior(PATHS["edm"]), start, grid.times, (0.04, 0.1))
    assert torch.allclose(scaled, twice, atol=1e-9)


def test_the_published_loop_with_a_linear_equation_is_dps():
    """With ddim a step has one call, and the loop is DPS's step."""
    den = GaussianPrior(PATHS["edm"])
    x = G.solve(
        den, G.Loss(equation, 0.3), "diffusion_pde", sampler="ddim", reference=0.0, steps=9,
        n=2, dtype=F64,
    )  # fmt: skip
    y = G.solve(
        den, G.Gaussian(L, F, 0.1), "dps_step", zeta=0.3, sampler="ddim", steps=9, n=2, dtype=F64
    )
    assert same(x, y)


def test_the_residual_and_the_misfit_fall():
    den = GaussianPrior(PATHS["edm"])

    def found(weight: float, method: str) -> Any:
        losses = [G.Loss(MEASURED, weight), G.Loss(equation, weight)]
        _, info = G.solve(
            den, losses, method, sampler="heun", steps=40, n=16, dtype=F64, grid="karras", info=True
        )
        return info.misfit.mean(0)

    for method, weight in (("residual", 1.0), ("diffusion_pde", 0.002)):
        assert bool((found(weight, method) < 0.8 * found(0.0, method)).all()), method


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"likelihood": [3]}, "guidance.Loss"),
        ({"likelihood": []}, "guidance.Loss"),
        ({"wrt": "y"}, "wrt"),
        ({"switch": 2.0}, "switch"),
        ({"method": "diffusion_pde", "sampler": "dpmpp_2m"}, "use heun or ddim"),
        ({"method": "diffusion_pde", "sampler": "euler_ancestral"}, "draws noise"),
        ({"method": "diffusion_pde", "sampler": "ode45"}, "sampler with a plan"),
        ({"method": "diffusion_pde", "callback": print}, "no callback"),
        ({"method": "mmps", "likelihood": [MEASURED]}, "must be a likelihood"),
    ],
)
def test_bad_input_is_refused_before_the_first_call(change, match):
    den = GaussianPrior(PATHS["edm"])
    given = {"likelihood": G.Loss(equation), "method": "residual", "dtype": F64, **change}
    with pytest.raises(ArgumentError, match=match):
        G.solve(den, given.pop("likelihood"), given.pop("method"), **given)
    assert den.calls == 0


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: G.Loss(3), "residual"),
        (lambda: G.Loss(equation, -1.0), "weight"),
        (lambda: G.Loss(equation, space=3), "space"),
        (lambda: G.Loss(equation, norm="l1"), "norm"),
        (lambda: G.Loss(equation, late=-1.0), "late"),
    ],
)
def test_bad_losses_are_refused(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()

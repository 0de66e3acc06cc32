"""MCG: pushes along gradients, and the replacement of what is measured."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gradient_free import masked as problem
from gradient_free import measured, prior
from posteriors import MU, A, D, GaussianPrior, Y
from problems import F64, PATHS

import fewstep
from fewstep import guidance as G
from fewstep.checks import ArgumentError


@pytest.mark.parametrize("path", PATHS)
def test_without_a_push_it_is_the_replacement(path):
    """Bit for bit, noise included."""
    den = GaussianPrior(PATHS[path], "x0")
    given = {"steps": 7, "seeds": range(4), "dtype": F64, "info": True}
    for lik in (problem(), G.Constraint(A, Y)):
        x, info = G.solve(den, lik, "mcg", zeta=0.0, **given)
        other, _ = G.solve(den, lik, "score_sde", **given)
        assert torch.equal(x, other)
        assert info.counts == info.predicted and info.counts.vjp == 0


@pytest.mark.parametrize("weight", ["identity", "pinverse"])
def test_a_step_by_hand(weight):
    """The push is the gradient of the norm of each sample; its measured part does not matter."""
    den, lik = GaussianPrior(PATHS["vp"], "eps"), G.Constraint(A, Y)
    method = G.MCG(den, lik, zeta=0.4, weight=weight)
    inverse = torch.linalg.pinv(A)
    seen: list[tuple[Any, ...]] = []

    def watch(step: Any) -> Any:
        before = step.x_next.clone()
        after = method.on_step(step)
        seen.append((step.node, step.next_node, step.x, before, after))
        return after

    x = fewstep.sample(method, "ddim", steps=4, eta=1.0, seeds=range(3), dtype=F64, callback=watch)
    for node, to, state, before, after in seen:
        leaf = state.clone().requires_grad_(True)
        d = MU + (leaf - node.alpha * MU) @ den.gain(node.t).T
        w = torch.eye(3, dtype=F64) if weight == "identity" else inverse
        (slope,) = torch.autograd.grad(((Y - d @ A.T) @ w.T).norm(dim=1).sum(), leaf)
        null = torch.eye(D, dtype=F64) - inverse @ A
        assert torch.allclose(after @ null, (before - 0.4 * slope @ null) @ null, atol=1e-9)
        level = after @ A.T - to.alpha * Y
        assert float(level.abs().max()) < 6.0 * to.sigma + 1e-10
    assert torch.allclose(x @ A.T, Y.expand(3, -1), atol=1e-10)


def test_the_cost_is_foretold():
    for path, steps, first in (("vp", 5, 0), ("flow", 5, 1)):  # J = 0 at alpha = 0
        den = GaussianPrior(PATHS[path], "x0")
        x, info = G.solve(den, problem(), "mcg", steps=steps, n=2, dtype=F64, info=True)
        assert info.counts == info.predicted and den.calls == steps == info.counts.network
        assert info.counts.vjp == steps - first
        assert info.counts.operator == info.counts.adjoint == 2 * steps - first
        assert float(info.misfit.max()) < 1e-12 and torch.isfinite(x).all()


def test_a_push_narrows_the_samples():
    """Reference, 1000 steps: (.063, .18, 1.14), (.134, .38, .64), (.31, .63, .40) for zeta = 0,
    .1, 1. A push of 1 in 100 steps, here: (.025, .058, .99) and (.105, .325, .68)."""
    none, pushed = (
        measured(problem(), "mcg", 100, hidden=True, n=1000, zeta=zeta) for zeta in (0.0, 1.0)
    )
    assert none[0] < 0.1 and none[1] < 0.15 and none[2] == pytest.approx(0.99, abs=0.1)
    assert 0.05 < pushed[0] < 0.2 and 0.25 < pushed[1] < 0.4
    assert pushed[2] == pytest.approx(0.68, abs=0.08)


@pytest.mark.slow
def test_the_published_number_of_steps():
    """Reference: see ``test_a_push_narrows_the_samples``; this draw of the problem: (.075, .086,
    1.07), (.093, .287, .72), (.61, .43, .58)."""
    found = [measured(problem(), "mcg", 1000, hidden=True, n=2000, zeta=z) for z in (0.0, 0.1, 1.0)]
    frozen = ((0.075, 0.086, 1.067), (0.093, 0.287, 0.724), (0.608, 0.428, 0.577))
    for mine, right in zip(found, frozen, strict=True):
        assert mine == pytest.approx(right, abs=0.02)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"zeta": -0.1}, "zeta"),
        ({"weight": "ct"}, "weight"),
        ({"sampler": "heun"}, "several calls a step"),
        ({"likelihood": G.Gaussian(A, Y, 0.1)}, "exact constraints"),
        (
            {"likelihood": G.Constraint(G.operators.Callable(lambda x: x @ A.T, linear=True,
             shape=(D,)), Y)},
            "pseudo-inverse",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_the_first_call(change, match):
    den = prior()
    given = {"likelihood": G.Constraint(A, Y), **change}
    with pytest.raises(ArgumentError, match=match):
        G.solve(den, given.pop("likelihood"), "mcg", **given)
    assert den.calls == 0


def test_the_push_belongs_to_its_run():
    method = G.MCG(prior(), problem())
    with pytest.raises(ArgumentError, match="callback="):
        fewstep.sample(method, "ddim", steps=3, eta=1.0, dtype=F64)

"""The order walk on plans whose local errors are known: it takes the smallest slope, the inner
steps, and the strength that it is told."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import fewstep
from fewstep.plans import Plan, PlanBuilder, walked_order
from fewstep.plans.walk import exact_moments, local_defects, step_orders
from fewstep.plans.weights.exponential import weights
from fewstep.schedules import Flow, VPLinear
from fewstep.schedules.grids.construction import Grid

VP = VPLinear()


def nodes(n: int) -> Grid:
    return Grid.from_nodes([VP.node_at_lam(lam) for lam in np.linspace(-2.0, 2.0, n + 1)], VP)


def spoiled(
    power: float,
    kept: int = 1,
    tau: float = 0.0,
    only: Callable[[int, int], bool] = lambda k, n: True,
) -> Callable[[int], Plan]:
    """Multistep plans on ``kept`` predictions whose newest weight is off by ``h^power``: the error
    of a constant prediction."""

    def plan(n: int) -> Plan:
        grid = nodes(n)
        b = PlanBuilder(grid.nodes, "asymptotic")
        x, history = b.start(grid[0]), []
        for k, (s, t) in enumerate(grid.pairs()):
            history = [(s, b.evaluate(x, s, "x0")), *history[: kept - 1]]
            w = weights(s, t, [node for node, _ in history], "x0", tau=tau)
            extra = (t.lam - s.lam) ** power if only(k, n) else 0.0
            y = w.carry * x + extra * history[0][1]
            for c, (_, value) in zip(w.values, history, strict=True):
                y = y + c * value
            x = b.at(t, y + w.noise * b.noise(s, t) if w.noise else y)
        return b.finish(x)

    return plan


def test_the_smallest_slope_decides() -> None:
    """One node alone is of order 1, whatever the slope of the constant's error (here 4); and a
    constant's error of h^2 spoils order 3."""
    assert walked_order(spoiled(4.0)) == pytest.approx(1.0, abs=0.05)
    assert walked_order(spoiled(40.0, kept=3)) == pytest.approx(3.0, abs=0.1)
    assert walked_order(spoiled(2.0, kept=3)) == pytest.approx(1.0, abs=0.05)
    assert walked_order(spoiled(3.0, kept=3)) == pytest.approx(2.0, abs=0.05)


def test_start_up_and_last_steps_are_left_out() -> None:
    """Only steps that begin in the middle half of the range of lam count."""
    ends = spoiled(2.0, kept=3, only=lambda k, n: k < n // 5 or k >= n - n // 5)
    assert walked_order(ends) == pytest.approx(3.0, abs=0.1)
    inner = spoiled(2.0, kept=3, only=lambda k, n: 0.27 * n < k < 0.3 * n)
    assert walked_order(inner) == pytest.approx(1.0, abs=0.1)


def test_an_exact_plan_has_no_slope() -> None:
    assert walked_order(spoiled(40.0, kept=3), degree=0) == math.inf


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_a_stochastic_plan_is_walked_with_its_own_strength(tau: float) -> None:
    assert walked_order(spoiled(40.0, kept=2, tau=tau), kappa=1.0 + tau**2) == pytest.approx(
        2.0, abs=0.1
    )
    assert walked_order(spoiled(40.0, kept=2, tau=tau)) < 0.2


def test_a_varying_strength_is_its_integral() -> None:
    """``kappa`` as a decay gives what the number gives where it is constant."""
    plan = spoiled(40.0, kept=2, tau=1.0)
    constant, varying = (
        local_defects(plan(16), 4, kappa) for kappa in (2.0, lambda a, b: 2.0 * (b - a))
    )
    start = np.abs(constant[3:] - varying[3:])
    assert float(start.max()) < 0.2 * float(np.abs(constant).max())
    assert walked_order(plan, kappa=lambda a, b: 2.0 * (b - a)) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("kappa", [1.0, 1.49, 2.0])
def test_moments_solve_their_equation(kappa: float) -> None:
    """``dP_k / dlam = kappa ((lam - c)^k - P_k)``."""
    lam, h, centre = 0.7, 1e-4, -0.3
    slope = (
        exact_moments(lam + h, centre, 5, kappa) - exact_moments(lam - h, centre, 5, kappa)
    ) / (2.0 * h)
    value = exact_moments(lam, centre, 5, kappa)
    np.testing.assert_allclose(
        slope, kappa * ((lam - centre) ** np.arange(6) - value), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("sampler", "options", "orders"),
    [
        ("ddim", {}, [1, 1, 1, 1, 1, 1]),
        ("dpmpp_3m", {}, [1, 1, 3, 3, 1, 1]),
        ("unipc", {"order": 3}, [1, 3, 4, 4, 3, 1]),
        ("etdrk4", {}, [3, 3, 3, 3, 3, 1]),
    ],
)
def test_the_order_to_which_each_step_is_exact(sampler, options, orders):
    plan = fewstep.plan(sampler, VPLinear(), steps=6, grid="lam", **options)
    assert step_orders(plan) == orders  # the last step, to sigma = 0: for a constant
    assert step_orders(plan, most=2) == [min(order, 2) for order in orders]


def test_a_step_from_pure_noise_is_known_for_a_constant_only():
    plan = fewstep.plan("unipc", Flow(), steps=6, grid="lam", order=3)
    assert step_orders(plan) == [1, 1, 3, 4, 3, 1]

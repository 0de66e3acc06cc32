"""Rules of peers that are no samplers of ours, written from their description: each shows what one
known deviation comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from fewstep.models import GaussianMixture
from fewstep.plans.builder import Expression, PlanBuilder, dot
from fewstep.plans.plan import Plan
from fewstep.plans.weights.exponential import adams, weights
from fewstep.samplers.multistep.compat import HalvedDifference
from fewstep.samplers.multistep.recurrence import Step, multistep
from fewstep.samplers.multistep.weight_rules import Interpolation
from fewstep.samplers.singlestep.dpm_solver import fill_orders
from fewstep.schedules import Grid, Node, Schedule

Write = Callable[[PlanBuilder, Grid], Plan]


def half_of_second_difference(lower_order_final: bool) -> Write:
    """DPM-Solver 3M, noise form, whose second difference counts half (as in
    ``dpmpp_3m_compat``)."""
    step = Step(HalvedDifference(Interpolation("eps", correction="midpoint")), 3)
    return lambda b, grid: multistep(b, grid, step, lower_order_final=lower_order_final)


def half_weight_in_stage(kind: str) -> Write:
    """DPM-Solver 3S whose third stage takes the weight 1/2 of a final second-order step, not the
    exact one."""

    def write(b: PlanBuilder, grid: Grid) -> Plan:
        x, first = b.start(grid[0]), 0
        for order in fill_orders(3, grid.steps):
            s, t = grid[first], grid[first + order]
            where = [grid[first + k] for k in range(order)]
            values: list[Expression] = []
            for k, node in enumerate(where):
                y = (
                    x
                    if k == 0
                    else b.at(node, _step(x, s, node, where[:k], values, kind, half=True))
                )
                values.append(b.evaluate(y, node, kind))
            if order == 3:
                x = b.at(t, _step(x, s, t, [s, where[2]], [values[0], values[2]], kind, half=False))
            else:
                x = b.at(t, _step(x, s, t, where, values, kind, half=True))
            first += order
        return b.finish(x)

    return write


def _step(
    x: Expression,
    s: Node,
    t: Node,
    nodes: list[Node],
    values: list[Expression],
    kind: str,
    half: bool,
) -> Expression:
    w = weights(s, t, nodes, kind, moment="half" if half and len(nodes) == 2 else None)
    return w.carry * x + dot(w.values, values)


def ipndm_without_data(b: PlanBuilder, grid: Grid) -> Plan:
    """iPNDM from alpha = 0 with x0 := 0 in the first step, whose noise prediction (the start noise)
    stays in the history."""
    x = b.start(grid[0])
    history: list[Expression] = []
    for s, t in grid.pairs():
        history = [b.evaluate(x, s, "eps"), *history[:3]]
        e = dot(adams(len(history)), history)
        data = x * 0.0 if s.alpha == 0.0 else (x - s.sigma * e) / s.alpha
        x = b.at(t, t.alpha * data + t.sigma * e)
    return b.finish(x)


def exact_integral(order: int, clock: Clock) -> Write:
    """Adams-Bashforth in ``clock`` (one that is linear in beta) on noise predictions, with the
    integrals of ``plans.weights``."""

    def timed(node: Node) -> Node:
        return Node(node.alpha, node.sigma, clock.of(node))

    def write(b: PlanBuilder, grid: Grid) -> Plan:
        x = b.start(grid[0])
        history: list[tuple[Node, Expression]] = []
        for s, t in grid.pairs():
            history = [(timed(s), b.evaluate(x, s, "eps")), *history[: order - 1]]
            nodes = [node for node, _ in history]
            w = weights(timed(s), timed(t), nodes, "eps", variable="t", t_of_lam=clock.of_lam)
            x = b.at(t, w.carry * x + dot(w.values, [e for _, e in history]))
        return b.finish(x)

    return write


@dataclass(frozen=True)
class Clock:
    """The variable in which a peer interpolates and sums: its value at half log-SNRs, and d rho / d
    value."""

    of_lam: Callable[[Any], Any]
    speed: Callable[[Any], Any]

    def of(self, node: Node) -> float:
        """Its value at a node."""
        return float(self.of_lam(node.lam))


def rho_clock() -> Clock:
    """rho itself."""
    return Clock(lambda lam: np.exp(-lam), np.ones_like)


def linear_beta_clock(low: float, high: float) -> Clock:
    """The time of the VP path with ``log(1 + rho^2) = low t + (high - low) t^2 / 2``."""
    slope = high - low

    def of_lam(lam: Any) -> Any:
        total = np.log1p(np.exp(-2.0 * lam))
        return 2.0 * total / (low + np.sqrt(low * low + 2.0 * slope * total))

    def speed(t: Any) -> Any:
        total = low * t + 0.5 * slope * t * t
        return 0.5 * (low + slope * t) * np.exp(total) / np.sqrt(np.expm1(total))

    return Clock(of_lam, speed)


def edm_clock(sigma_min: float = 0.002, sigma_max: float = 80.0, first: float = 1e-3) -> Clock:
    """diff-sampler's VP time: linear in beta, with sigma_min at ``first`` and sigma_max at 1."""
    low, high = np.log1p(sigma_min**2), np.log1p(sigma_max**2)
    slope = 2.0 * float(low / first - high) / (first - 1.0)
    start = float(high) - 0.5 * slope
    return linear_beta_clock(start, start + slope)


def riemann_sum(order: int, clock: Clock, endpoint: bool, items: int = 10_000) -> Write:
    """Adams-Bashforth in ``clock`` on noise predictions, with a sum over ``items`` points for every
    integral.

    ``endpoint``: the points run to the end of the step (they are still ``items`` with the weight
    ``length / items``). One node gives the Euler step, without a sum, where ``endpoint`` is set
    (diff-sampler).
    """

    def write(b: PlanBuilder, grid: Grid) -> Plan:
        x = b.start(grid[0])
        history: list[tuple[Node, Expression]] = []
        for s, t in grid.pairs():
            history = [(s, b.evaluate(x, s, "eps")), *history[: order - 1]]
            if len(history) == 1 and endpoint:
                shares = [t.rho - s.rho]
            else:
                shares = _sums(
                    clock, [clock.of(node) for node, _ in history], clock.of(t), endpoint, items
                )
            x = b.at(t, (t.alpha / s.alpha) * x + t.alpha * dot(shares, [e for _, e in history]))
        return b.finish(x)

    return write


def _sums(clock: Clock, where: list[float], end: float, endpoint: bool, items: int) -> list[float]:
    points = np.linspace(where[0], end, items, endpoint=endpoint)
    weight = clock.speed(points) * (end - where[0]) / items
    out = []
    for j, own in enumerate(where):
        basis = np.ones_like(points)
        for other in (w for i, w in enumerate(where) if i != j):
            basis = basis * (points - other) / (own - other)
        out.append(float((weight * basis).sum()))
    return out


class Relabelled:
    """A velocity model that is told another time than its state's: ``label(t)``."""

    def __init__(self, inner: GaussianMixture, label: Callable[[float], float]) -> None:
        self.inner, self.label = inner, label
        self.schedule: Schedule = inner.schedule
        self.prediction, self.shape = inner.prediction, inner.shape

    def raws(self, x_in: Tensor, t: Any, cond: Any = None) -> tuple[Tensor, ...]:
        """The inner model's, at the label."""
        return self.inner.raws(x_in, self.label(float(t)), cond)

    def coefficients(self, t: float) -> tuple[float, tuple[float, ...]]:
        """The inner model's: a velocity is used as it is."""
        return self.inner.coefficients(t)

    def input_scale(self, t: float) -> float:
        """The inner model's."""
        return self.inner.input_scale(t)

    def __call__(self, x: Tensor, t: Any, cond: Any = None) -> Tensor:
        """The velocity at the label."""
        return self.inner(x, self.label(float(t)), cond)

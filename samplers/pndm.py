"""Pseudo numerical methods (Liu et al. 2022, arXiv 2202.09778, eqs. 11-13, Alg. 2): classical weights on eps, exact transfer of the state.

Transfer from s to t with slope e: ``x_t = alpha_t (x / alpha_s + (rho_t - rho_s) e)``. The weights are those of uniform grids, so every
method here is second order at most where rho is not uniform, whatever its number of nodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..plans.builder import Lin, PlanBuilder, dot
from ..plans.instructions import Plan
from ..plans.weights import adams
from ..schedules.grids import Grid
from ..schedules.node import Node
from .options import integer
from .registry import NoOptions, register


def transfer(x: Lin, e: Lin, s: Node, t: Node) -> Lin:
    """``alpha_t (x / alpha_s + (rho_t - rho_s) e)``."""
    return (t.alpha / s.alpha) * x + (t.alpha * (t.rho - s.rho)) * e


def _halfway(grid: Grid, s: Node, t: Node) -> Node | None:
    """The node at the middle time; None where the step ends at sigma = 0 (the pseudo Runge-Kutta stage there would be evaluated at it)."""
    if t.sigma == 0.0 or s.t is None or t.t is None or not math.isfinite(t.t):
        return None
    return grid.at_t(0.5 * (s.t + t.t))


@dataclass(frozen=True)
class IPNDM:
    """``order``: number of past noise predictions."""

    order: int = 4

    def __post_init__(self) -> None:
        integer("order", self.order, 1, 4)


@register("pndm", order=2, source="Liu et al. 2022, arXiv 2202.09778, Alg. 2 (F-PNDM)")
def pndm(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """F-PNDM: three pseudo Runge-Kutta steps, then four noise predictions; N + 9 evaluations."""
    x = b.start(grid[0])
    history: list[Lin] = []
    for i, (s, t) in enumerate(grid.pairs()):
        e1 = b.evaluate(x, s, "eps")
        history = [e1, *history[:3]]
        middle = _halfway(grid, s, t) if i < 3 else None
        if middle is not None:
            e2 = b.evaluate(b.at(middle, transfer(x, e1, s, middle)), middle, "eps")
            e3 = b.evaluate(b.at(middle, transfer(x, e2, s, middle)), middle, "eps")
            e4 = b.evaluate(b.at(t, transfer(x, e3, s, t)), t, "eps")
            e = (e1 + 2.0 * e2 + 2.0 * e3 + e4) / 6.0
        else:
            e = dot(adams(len(history)), history)
        x = b.at(t, transfer(x, e, s, t))
    return b.finish(x)


@register("plms", order=2, source="Liu et al. 2022, arXiv 2202.09778, with the start-up of CompVis and diffusers")
def plms(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """PLMS: a Heun-like first step, then two, three and four noise predictions; N + 1 evaluations (1 for one step)."""
    x = b.start(grid[0])
    history: list[Lin] = []
    for i, (s, t) in enumerate(grid.pairs()):
        e = b.evaluate(x, s, "eps")
        history = [e, *history[:3]]
        if i == 0 and t.sigma > 0.0:
            ahead = b.evaluate(b.at(t, transfer(x, e, s, t)), t, "eps")
            x = b.at(t, transfer(x, 0.5 * (e + ahead), s, t))
        else:
            x = b.at(t, transfer(x, dot(adams(len(history)), history), s, t))
    return b.finish(x)


@register(
    "ipndm",
    order=lambda o: min(o.order, 2),
    source="Zhang & Chen 2022, arXiv 2204.13902, sec. 3 (iPNDM)",
    variants=tuple({"order": p} for p in (1, 2, 3)),
)
def ipndm(b: PlanBuilder, grid: Grid, options: IPNDM) -> Plan:
    """Improved PNDM: uniform Adams-Bashforth weights from the first step on; N evaluations."""
    x = b.start(grid[0])
    history: list[Lin] = []
    for s, t in grid.pairs():
        history = [b.evaluate(x, s, "eps"), *history[: options.order - 1]]
        x = b.at(t, transfer(x, dot(adams(len(history)), history), s, t))
    return b.finish(x)

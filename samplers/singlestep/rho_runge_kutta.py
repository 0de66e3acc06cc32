"""Runge-Kutta in rho, ``dy/drho = eps(alpha y)`` with ``y = x / alpha``: Euler, EDM's Heun and the
midpoint rule (Karras et al. 2022, arXiv 2206.00364, eq. 4 and Alg. 2)."""

from __future__ import annotations

from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ..registry import NoOptions, register
from .churn import Churn, lifter, stochastic
from .frames import RhoFrame
from .runge_kutta import rk_step, runge_kutta
from .tableau import TABLEAUS, Tableau


def churned(b: PlanBuilder, grid: Grid, tableau: Tableau, options: Churn) -> Plan:
    """Build the plan of Runge-Kutta steps in rho, each preceded by churn."""
    x, jump, frame = b.start(grid[0]), lifter(b, grid, options), RhoFrame(grid)
    for s, t in grid.pairs():
        x, up = jump(x, s)
        x = rk_step(b, x, up, t, tableau, frame)
    return b.finish(x)


_CHURN = ({"s_churn": 2.0},)


@register(
    "euler",
    order=1,
    source="Karras et al. 2022, arXiv 2206.00364, Alg. 2 without its second half",
    tau=stochastic,
    allow="signal",
    variants=_CHURN,
)
def euler(b: PlanBuilder, grid: Grid, options: Churn) -> Plan:
    """Euler in rho (equal to DDIM), with optional churn."""
    return churned(b, grid, TABLEAUS["euler"], options)


@register(
    "heun",
    order=2,
    source="Karras et al. 2022, arXiv 2206.00364, Alg. 2",
    tau=stochastic,
    allow="signal",
    variants=_CHURN,
)
def heun(b: PlanBuilder, grid: Grid, options: Churn) -> Plan:
    """Heun in rho with optional churn (EDM's sampler); Euler in the last step to sigma = 0."""
    return churned(b, grid, TABLEAUS["heun"], options)


@register("midpoint", order=2, source="explicit midpoint rule on dy/drho = eps")
def midpoint(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """Midpoint rule in rho."""
    return runge_kutta(b, grid, TABLEAUS["midpoint"], RhoFrame(grid))

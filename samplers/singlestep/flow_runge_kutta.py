"""Runge-Kutta in t on the velocity, ``dx/dt = u(x, t)`` (Lipman et al. 2022, arXiv 2210.02747,
eq. 3)."""

from __future__ import annotations

from dataclasses import dataclass

from ...checks import choice, flag
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ..registry import NoOptions, register
from .frames import TimeFrame
from .runge_kutta import runge_kutta
from .tableau import TABLEAUS


@dataclass(frozen=True)
class FlowRK:
    """Options. ``evaluate_end``: evaluate the velocity at sigma = 0 if the tableau has a stage
    there; False makes an Euler step instead."""

    evaluate_end: bool = False

    def __post_init__(self) -> None:
        flag("evaluate_end", self.evaluate_end)


@dataclass(frozen=True)
class FlowRK4(FlowRK):
    """Options. ``rule``: the classical tableau or Kutta's 3/8 rule (torchdiffeq's "rk4")."""

    rule: str = "classic"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("rule", self.rule, ("classic", "3/8"))


@register(
    "flow_euler",
    order=1,
    source="Liu et al. 2022, arXiv 2209.03003",
    allow="asymptotic",
    alpha_zero=True,
    on="flow",
)
def flow_euler(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """Euler in t on the velocity."""
    return runge_kutta(b, grid, TABLEAUS["euler"], TimeFrame(grid))


@register(
    "flow_heun",
    order=2,
    source="Heun's rule on dx/dt = u, Lipman et al. 2022, arXiv 2210.02747",
    allow="asymptotic",
    alpha_zero=True,
    on="flow",
    variants=({"evaluate_end": True},),
)
def flow_heun(b: PlanBuilder, grid: Grid, options: FlowRK) -> Plan:
    """Heun in t on the velocity."""
    return runge_kutta(
        b, grid, TABLEAUS["heun"], TimeFrame(grid), evaluate_end=options.evaluate_end
    )


@register(
    "flow_midpoint",
    order=2,
    source="midpoint rule on dx/dt = u, Lipman et al. 2022, arXiv 2210.02747",
    allow="asymptotic",
    alpha_zero=True,
    on="flow",
)
def flow_midpoint(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """Midpoint rule in t on the velocity."""
    return runge_kutta(b, grid, TABLEAUS["midpoint"], TimeFrame(grid))


@register(
    "flow_rk4",
    order=4,
    source="Kutta 1901 on dx/dt = u, Lipman et al. 2022, arXiv 2210.02747",
    allow="asymptotic",
    alpha_zero=True,
    on="flow",
    variants=({"rule": "3/8"},),
)
def flow_rk4(b: PlanBuilder, grid: Grid, options: FlowRK4) -> Plan:
    """Runge-Kutta 4 in t on the velocity."""
    tableau = TABLEAUS["rk4" if options.rule == "classic" else "rk38"]
    return runge_kutta(b, grid, tableau, TimeFrame(grid), evaluate_end=options.evaluate_end)


@register(
    "flow_heun3",
    order=3,
    source="Heun's third-order rule on dx/dt = u, Lipman et al. 2022, arXiv 2210.02747",
    allow="asymptotic",
    alpha_zero=True,
    on="flow",
)
def flow_heun3(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """Heun's third-order rule in t on the velocity (stages at 0, 1/3 and 2/3 of the step)."""
    return runge_kutta(b, grid, TABLEAUS["heun3"], TimeFrame(grid))

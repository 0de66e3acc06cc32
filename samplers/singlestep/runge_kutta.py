"""Explicit Runge-Kutta on the probability-flow ODE, in two frames.

    rho frame     dy/drho = eps(alpha y)     y = x / alpha      (Karras et al. 2022, arXiv 2206.00364, eq. 4; DEIS rho-RK, 2204.13902)
    time frame    dx/dt = velocity(x, t)                        (Lipman et al. 2022, arXiv 2210.02747, eq. 3)

A method is a tableau. Where a stage would be evaluated at sigma = 0, or between the first entry of
a table and sigma = 0 (where it has no time), the step is an Euler step, unless ``evaluate_end``
asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...checks import ArgumentError, choice, flag
from ...plans.builder import Expression, PlanBuilder, dot
from ...plans.instructions import Plan
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..registry import NoOptions, register
from .churn import Churn, lifter, stochastic


@dataclass(frozen=True)
class Tableau:
    """Nodes ``c``, stage rows ``a`` (row k has k entries), weights ``b`` and the order; checked on
    construction."""

    order: int
    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]

    def __post_init__(self) -> None:
        rows = [abs(sum(row) - c) for row, c in zip(self.a, self.c, strict=True)]
        if (
            max(rows) > 1e-15
            or abs(sum(self.b) - 1.0) > 1e-15
            or any(len(row) != k for k, row in enumerate(self.a))
        ):
            raise ArgumentError(f"not an explicit tableau: {self}")


TABLEAUS = {
    "euler": Tableau(1, (0.0,), ((),), (1.0,)),
    "heun": Tableau(2, (0.0, 1.0), ((), (1.0,)), (0.5, 0.5)),
    "midpoint": Tableau(2, (0.0, 0.5), ((), (0.5,)), (0.0, 1.0)),
    "kutta3": Tableau(3, (0.0, 0.5, 1.0), ((), (0.5,), (-1.0, 2.0)), (1 / 6, 4 / 6, 1 / 6)),
    "ralston3": Tableau(3, (0.0, 0.5, 0.75), ((), (0.5,), (0.0, 0.75)), (2 / 9, 3 / 9, 4 / 9)),
    "heun3": Tableau(3, (0.0, 1 / 3, 2 / 3), ((), (1 / 3,), (0.0, 2 / 3)), (0.25, 0.0, 0.75)),
    "houwen3": Tableau(3, (0.0, 8 / 15, 2 / 3), ((), (8 / 15,), (0.25, 5 / 12)), (0.25, 0.0, 0.75)),
    "ssp3": Tableau(3, (0.0, 1.0, 0.5), ((), (1.0,), (0.25, 0.25)), (1 / 6, 1 / 6, 4 / 6)),
    "rk4": Tableau(
        4,
        (0.0, 0.5, 0.5, 1.0),
        ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
        (1 / 6, 2 / 6, 2 / 6, 1 / 6),
    ),
    "rk38": Tableau(
        4,
        (0.0, 1 / 3, 2 / 3, 1.0),
        ((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
        (1 / 8, 3 / 8, 3 / 8, 1 / 8),
    ),
}


class RhoFrame:
    """Steps of ``y = x / alpha`` in rho, slope eps."""

    kind = "eps"

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def stage(self, s: Node, t: Node, c: float) -> Node:
        """The node at fraction ``c`` of the step."""
        return self.grid.at_rho(s.rho + c * (t.rho - s.rho))

    def reaches(self, s: Node, t: Node, c: float) -> bool:
        """Whether there is a node at fraction ``c`` of the step: a table has none between its first
        entry and sigma = 0."""
        schedule = self.grid.schedule
        return s.rho + c * (t.rho - s.rho) >= schedule.node(schedule.t_low).rho

    def move(self, x: Expression, s: Node, t: Node, to: Node, slopes: Expression) -> Expression:
        """State at ``to`` with ``slopes`` the tableau sum (in units of the whole step)."""
        return (to.alpha / s.alpha) * x + (to.alpha * (t.rho - s.rho)) * slopes


class TimeFrame:
    """Steps of ``x`` in t, slope velocity."""

    kind = "velocity"

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def stage(self, s: Node, t: Node, c: float) -> Node:
        """The node at fraction ``c`` of the step."""
        a, b = _time(s), _time(t)
        return self.grid.at_t(a + c * (b - a))

    def reaches(self, s: Node, t: Node, c: float) -> bool:
        """Whether there is a node at fraction ``c`` of the step: a table has none between its first
        entry and sigma = 0."""
        a, b = _time(s), _time(t)
        return a + c * (b - a) >= self.grid.schedule.t_low

    def move(self, x: Expression, s: Node, t: Node, to: Node, slopes: Expression) -> Expression:
        """State at ``to`` with ``slopes`` the tableau sum (in units of the whole step)."""
        return x + (_time(t) - _time(s)) * slopes


def _time(node: Node) -> float:
    if node.t is None or abs(node.t) == float("inf"):
        raise ArgumentError(f"a step in t needs a finite time, node {node} has none")
    return node.t


def runge_kutta(
    b: PlanBuilder,
    grid: Grid,
    tableau: Tableau,
    frame: RhoFrame | TimeFrame,
    *,
    evaluate_end: bool = False,
) -> Plan:
    """Write the plan of ``tableau`` in ``frame``."""
    x = b.start(grid[0])
    for s, t in grid.pairs():
        x = rk_step(b, x, s, t, tableau, frame, evaluate_end=evaluate_end)
    return b.finish(x)


def rk_step(
    b: PlanBuilder,
    x: Expression,
    s: Node,
    t: Node,
    tableau: Tableau,
    frame: RhoFrame | TimeFrame,
    *,
    evaluate_end: bool = False,
) -> Expression:
    """The state at t from ``x`` at s."""
    method = tableau
    if (
        t.sigma == 0.0
        and not evaluate_end
        and (1.0 in tableau.c or not frame.reaches(s, t, max(tableau.c)))
    ):
        method = TABLEAUS["euler"]
    slopes: list[Expression] = []
    for c, row in zip(method.c, method.a, strict=True):
        node = s if c == 0.0 else t if c == 1.0 else frame.stage(s, t, c)
        y = b.at(node, frame.move(x, s, t, node, dot(row, slopes))) if row else x
        slopes.append(b.evaluate(y, node, frame.kind))
    return b.at(t, frame.move(x, s, t, t, dot(method.b, slopes)))


def churned(b: PlanBuilder, grid: Grid, tableau: Tableau, options: Churn) -> Plan:
    """Steps in rho, each after the jump of ``churn``."""
    x, jump, frame = b.start(grid[0]), lifter(b, grid, options), RhoFrame(grid)
    for s, t in grid.pairs():
        x, up = jump(x, s)
        x = rk_step(b, x, up, t, tableau, frame)
    return b.finish(x)


@dataclass(frozen=True)
class FlowRK:
    """``evaluate_end``: evaluate the velocity at sigma = 0 where the tableau wants it, instead of
    an Euler step."""

    evaluate_end: bool = False

    def __post_init__(self) -> None:
        flag("evaluate_end", self.evaluate_end)


@dataclass(frozen=True)
class FlowRK4(FlowRK):
    """``rule``: the classical tableau or Kutta's 3/8 rule (torchdiffeq's "rk4")."""

    rule: str = "classic"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("rule", self.rule, ("classic", "3/8"))


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
    """Euler in rho (the same map as DDIM), with churn where asked for."""
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
    """Heun in rho, Euler in the last step to sigma = 0, with churn where asked for (EDM's
    sampler)."""
    return churned(b, grid, TABLEAUS["heun"], options)


@register("midpoint", order=2, source="explicit midpoint rule on dy/drho = eps")
def midpoint(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """Midpoint rule in rho."""
    return runge_kutta(b, grid, TABLEAUS["midpoint"], RhoFrame(grid))


@register(
    "flow_euler",
    order=1,
    source="Liu et al. 2022, arXiv 2209.03003",
    allow="asymptotic",
    alpha_zero=True,
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
)
def flow_heun3(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """Heun's third-order rule in t on the velocity (stages at 0, 1/3 and 2/3 of the step)."""
    return runge_kutta(b, grid, TABLEAUS["heun3"], TimeFrame(grid))

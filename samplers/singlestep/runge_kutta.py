"""The Runge-Kutta core: explicit steps on the probability-flow ODE with any tableau in any
frame."""

from __future__ import annotations

from ...plans.builder import Expression, PlanBuilder, dot
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from .frames import Frame
from .tableau import TABLEAUS, Tableau


def stage_slopes(
    b: PlanBuilder,
    x: Expression,
    s: Node,
    t: Node,
    tableau: Tableau,
    frame: Frame,
    first: Expression | None = None,
) -> list[Expression]:
    """Slopes at the stages of the step from ``x`` at s to t. ``first``: the prediction at s, if
    known."""
    slopes: list[Expression] = []
    for c, row in zip(tableau.c, tableau.a, strict=True):
        node = s if c == 0.0 else t if c == 1.0 else frame.stage(s, t, c)
        y = b.at(node, frame.move(x, s, t, node, c, dot(row, slopes))) if row else x
        known = None if row else first
        m = b.evaluate(y, node, frame.kind) if known is None else known
        slopes.append(frame.slope(m, node))
    return slopes


def rk_step(
    b: PlanBuilder,
    x: Expression,
    s: Node,
    t: Node,
    tableau: Tableau,
    frame: Frame,
    *,
    evaluate_end: bool = False,
    first: Expression | None = None,
) -> Expression:
    """State at t after one step from ``x`` at s.

    If a stage would be evaluated at sigma = 0, or between the first entry of a table and sigma = 0
    (where no time exists), the step is an Euler step, unless ``evaluate_end`` is set.
    """
    method = tableau
    if (
        t.sigma == 0.0
        and not evaluate_end
        and (1.0 in tableau.c or not frame.reaches(s, t, max(tableau.c)))
    ):
        method = TABLEAUS["euler"]
    slopes = stage_slopes(b, x, s, t, method, frame, first)
    return b.at(t, frame.move(x, s, t, t, 1.0, dot(method.b, slopes)))


def runge_kutta(
    b: PlanBuilder, grid: Grid, tableau: Tableau, frame: Frame, *, evaluate_end: bool = False
) -> Plan:
    """Build the plan of ``tableau`` in ``frame`` along ``grid``."""
    x = b.start(grid[0])
    for s, t in grid.pairs():
        x = rk_step(b, x, s, t, tableau, frame, evaluate_end=evaluate_end)
    return b.finish(x)

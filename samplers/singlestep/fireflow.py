"""FireFlow: the midpoint rule on the velocity, whose first stage takes the midpoint velocity of the
step before (Deng et al. 2024, arXiv 2412.07517).

    v_0 = u(x_0, t_0)
    v_{i+1} = u(x_i + (h_i / 2) v_i, t_i + h_i / 2),    x_{i+1} = x_i + h_i v_{i+1}

The velocity of the first stage is half a step old, an error of h in it and of h^2 in the midpoint,
so the order is that of the midpoint rule, 2, at one network call a step and one more at the start.
"""

from __future__ import annotations

from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ..registry import NoOptions, register
from .frames import TimeFrame


@register(
    "fireflow",
    order=2,
    source="Deng et al. 2024, arXiv 2412.07517",
    allow="asymptotic",
    alpha_zero=True,
    on="flow",
)
def fireflow(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """FireFlow: midpoint rule in t that reuses the last midpoint velocity; one call a step and one
    at the start."""
    x, frame, v = b.start(grid[0]), TimeFrame(grid), None
    for s, t in grid.pairs():
        if v is None or not frame.reaches(s, t, 0.5):
            v = b.evaluate(x, s, frame.kind)
        if frame.reaches(s, t, 0.5):
            middle = frame.stage(s, t, 0.5)
            v = b.evaluate(
                b.at(middle, frame.move(x, s, t, middle, 0.5, 0.5 * v)), middle, "velocity"
            )
        x = b.at(t, frame.move(x, s, t, t, 1.0, v))
    return b.finish(x)

"""Samplers that step in t, and the error that no number of steps takes them below on a table.

Between the entries of ``DiscreteVP`` log rho is linear in t, so the slopes d alpha/dt and d sigma/dt jump at every entry. A method that
steps in t integrates those slopes: its error stops falling with its order where a step is no longer long against an entry. Measured on a
two-component mixture in two dimensions, 1000 entries, beta 1e-4 .. 0.02, grid uniform, root mean square of the end point: the error stops
near 1e-4 from about 40 steps on (flow_heun 6.6e-5 at 80 steps and 7.0e-5 at 160; flow_rk4 2.5e-5 at 40 and 5.3e-5 at 160), and steps that
fall on entries can be worse (flow_heun 9.4e-4 at 333). heun and dpm_solver_3, which step in rho and lam, go on falling (3.7e-5, 4.5e-6).
"""

from __future__ import annotations

import warnings

from ..schedules.discrete import DiscreteVP
from ..schedules.grids import Grid

#: the samplers that step in t beyond first order -> where the error stops falling on a table of 1000 entries
FLOORS: dict[str, float] = dict.fromkeys(("flow_heun", "flow_midpoint", "flow_heun3", "flow_rk4", "flow_adams", "interpolant_ode"), 1e-4)
#: entries a step below which the floor is reached
ENTRIES = 25.0


def warn_of_floor(name: str, grid: Grid) -> None:
    """UserWarning where a plan in t has more steps on a table than lower its error."""
    schedule = grid.schedule
    if name in FLOORS and isinstance(schedule, DiscreteVP) and grid.steps > 40 and (grid.times[0] - grid.times[-1]) / grid.steps < ENTRIES:
        warnings.warn(
            f"{name} steps in t, and the slopes of a table jump at its entries: with {grid.steps} steps on this table the error stays near "
            f"{FLOORS[name]:.0e}; heun, dpm_solver_3 and the multistep samplers go below",
            UserWarning,
            stacklevel=4,
        )

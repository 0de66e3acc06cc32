"""Samplers that step in t, and the error that no number of steps takes them below on a table.

Between the entries of ``DiscreteVP`` log rho is linear in t, so the slopes d alpha/dt and d
sigma/dt jump at every entry. A method that steps in t integrates those slopes: its error stops
falling with its order where a step is no longer long against an entry, near 1e-4, and falls
irregularly from there (docs/certificates.md has the numbers, ``eval.floor_certification`` measures
them). heun and dpm_solver_3, which step in rho and lam, go on falling with their orders.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ..schedules.discrete import DiscreteVP
from ..schedules.grids.construction import Grid

#: the samplers that step in t beyond first order -> where the error stops falling on a table of
#: 1000 entries
FLOORS: dict[str, float] = dict.fromkeys(
    ("flow_heun", "flow_midpoint", "flow_heun3", "flow_rk4", "flow_adams", "interpolant_ode"), 1e-4
)
#: entries a step below which the floor is reached
ENTRIES = 25.0


class FloorWarning(UserWarning):
    """More steps than lower the error of a sampler that steps in t on a table."""


@contextmanager
def quietly() -> Iterator[None]:
    """No ``FloorWarning`` inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FloorWarning)
        yield


def warn_of_floor(name: str, grid: Grid) -> None:
    """FloorWarning where a plan in t has more steps on a table than lower its error."""
    schedule = grid.schedule
    if (
        name in FLOORS
        and isinstance(schedule, DiscreteVP)
        and grid.steps > 40
        and (grid.times[0] - grid.times[-1]) / grid.steps < ENTRIES
    ):
        warnings.warn(
            f"{name} steps in t, and the slopes of a table jump at its entries: with "
            f"{grid.steps} steps on this table the error stays near "
            f"{FLOORS[name]:.0e}; heun, dpm_solver_3 and the multistep samplers go below",
            FloorWarning,
            stacklevel=4,
        )

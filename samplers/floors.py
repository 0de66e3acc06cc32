"""The error floor of samplers that step in t on tables: more steps do not reduce the error below
it.

Between the entries of ``DiscreteVP`` log rho is linear in t, so the slopes d alpha/dt and d
sigma/dt jump at every entry. A method that steps in t integrates those slopes. Its error stops
decreasing with its order near 1e-4, once a step covers fewer than about 25 entries, and then
decreases irregularly (docs/certificates.md has the numbers, ``eval.floor_certification`` measures
them). heun and dpm_solver_3, which step in rho and lam, keep their orders.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ..checks.caller_warnings import warn_caller
from ..schedules.discrete import DiscreteVP
from ..schedules.grids.construction import Grid

#: samplers above first order that step in t -> their error floor on a table of 1000 entries
FLOORS: dict[str, float] = dict.fromkeys(
    (
        "flow_heun",
        "flow_midpoint",
        "flow_heun3",
        "flow_rk4",
        "flow_adams",
        "flow_belm",
        "fireflow",
        "interpolant_ode",
    ),
    1e-4,
)
#: entries per step below which the floor is reached
ENTRIES = 25.0


class FloorWarning(UserWarning):
    """Warning: more steps than reduce the error of a sampler that steps in t on a table."""


@contextmanager
def quietly() -> Iterator[None]:
    """Suppress ``FloorWarning`` inside the context."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FloorWarning)
        yield


def warn_of_floor(name: str, grid: Grid) -> None:
    """Issue a FloorWarning if a sampler that steps in t has more steps on a table than reduce its
    error."""
    schedule = grid.schedule
    if (
        name in FLOORS
        and isinstance(schedule, DiscreteVP)
        and grid.steps > 40
        and (grid.times[0] - grid.times[-1]) / grid.steps < ENTRIES
    ):
        warn_caller(
            f"{name} steps in t, but the slopes of a table jump at its entries: with "
            f"{grid.steps} steps on this table the error stays near "
            f"{FLOORS[name]:.0e}; heun, dpm_solver_3 and the multistep samplers have no such floor",
            FloorWarning,
        )

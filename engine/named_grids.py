"""Cache of named grids: the same arguments return the same ``Grid`` object."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..checks import immutable
from ..schedules.base import Schedule
from ..schedules.grids.construction import Grid
from ..schedules.grids.registry import GRIDS
from ..schedules.grids.request import GridRequest

#: steps of the longest grid that is cached
LONGEST = 1000


def grid_for(where: GridRequest, schedule: Schedule, steps: int | None = None) -> Grid:
    """Return ``where.build(schedule, steps)``; a named grid of an immutable schedule is cached."""
    length = where.steps if steps is None else steps
    if where.given or (length or 0) > LONGEST or not (immutable(schedule) and immutable(where)):
        return where.build(schedule, steps)
    return _named_grid(GRIDS.get(str(where.grid)), where, schedule, steps)


@lru_cache(maxsize=256)
def _named_grid(family: Any, where: GridRequest, schedule: Schedule, steps: int | None) -> Grid:
    """Build a grid. ``family`` is part of the cache key, so that a name that is registered again
    gives its new grid."""
    return where.build(schedule, steps)


def forget_grids() -> None:
    """Clear the cache of named grids."""
    _named_grid.cache_clear()

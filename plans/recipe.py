"""``Recipe``: how a plan was made, so that it can be made again at other times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..schedules.grids.construction import Grid


class Recipe(Protocol):
    """How a plan was made. It takes no part in ``==`` and is not saved."""

    @property
    def grid(self) -> Grid:
        """The grid of the plan."""
        ...

    def plan(self, times: Sequence[float]) -> Any:
        """The plan of the same sampler and options at ``times``, as many as the grid has. GridError
        unless they fall strictly from noise to data."""
        ...

"""Errors of schedules, grids and scheduler configs."""

from __future__ import annotations

from ..checks import ArgumentError
from ..checks import UnknownName as UnknownName


class GridError(ArgumentError):
    """A time grid that cannot be built: an unknown name or option, a wrong number of steps, times that are not a descent."""


class ScheduleError(ArgumentError):
    """A configuration that describes no schedule."""


class ConfigError(ScheduleError):
    """A diffusers scheduler config, or a keyword that changes one, that cannot be honoured."""

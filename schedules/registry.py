"""Registry of schedules: class name -> class.

A class in a module of ``schedules`` registers itself; all modules of the package are imported, in
alphabetical order, by the package. The tests of registered schedules run on ``examples()``.
"""

from __future__ import annotations

from typing import Any, TypeVar

from ..checks import ScheduleError
from .base import Schedule

#: name in a config -> class
SCHEDULES: dict[str, type[Any]] = {}

S = TypeVar("S", bound=type[Schedule])


def register(cls: S) -> S:
    """Register a frozen dataclass derived from ``Schedule`` under its name, so that ``to_config``
    and ``from_config`` know it. Raises ScheduleError for any other class, and a name that is
    taken."""
    made = getattr(cls, "__dataclass_params__", None)
    if not issubclass(cls, Schedule) or made is None or not made.frozen:
        raise ScheduleError(f"{cls.__name__} must be a frozen dataclass derived from Schedule")
    if cls.__name__ in SCHEDULES:
        raise ScheduleError(f"schedule {cls.__name__!r} is registered twice")
    SCHEDULES[cls.__name__] = cls
    return cls


def names() -> tuple[str, ...]:
    """Names of the registered schedules, sorted."""
    return tuple(sorted(SCHEDULES))

"""Compiled work that is the same from call to call: named grids, and plans lowered for a denoiser.

A program depends on a plan and on the denoiser's numbers alone (``prediction``, ``coefficients``,
``input_scale``). What the lowering asked for is kept beside the program and asked for again at the
next call: a denoiser whose numbers changed (a guidance scale that was set to another value) is
lowered anew.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from threading import Lock
from typing import Any

from ..checks import immutable
from ..models.base import BaseDenoiser, read_coefficients
from ..plans.plan import Plan
from ..plans.running.lowering import Program, lower
from ..schedules.base import Schedule
from ..schedules.grids.construction import Grid
from ..schedules.grids.registry import GRIDS
from ..schedules.grids.request import GridRequest

#: plans whose programs are kept, and programs of each (one for every set of numbers)
PLANS, PROGRAMS = 64, 4
#: steps of the longest grid and calls of the longest plan that are kept
LONGEST = 1000

#: what a method was asked, and its answer
Asked = tuple[tuple[Any, ...], Any]


class _Recorder:
    """The numbers of a denoiser, with a record of what was asked."""

    def __init__(self, denoiser: BaseDenoiser) -> None:
        self.denoiser = denoiser
        self.prediction, self.channels = denoiser.prediction, denoiser.channels
        self.asked_coefficients: list[Asked] = []
        self.asked_scales: list[Asked] = []

    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        found = read_coefficients(self.denoiser, t, channel)
        self.asked_coefficients.append(((t, channel), found))
        return found

    def input_scale(self, t: float) -> float:
        found = self.denoiser.input_scale(t)
        self.asked_scales.append(((t,), found))
        return found

    def agrees(self, denoiser: BaseDenoiser) -> bool:
        """Whether ``denoiser`` gives the same answers."""
        return (
            self.prediction == denoiser.prediction
            and self.channels == denoiser.channels
            and all(denoiser.input_scale(*place) == was for place, was in self.asked_scales)
            and all(
                read_coefficients(denoiser, *place) == was for place, was in self.asked_coefficients
            )
        )


#: id of a plan -> the plan (so that the id stays its own) and its programs, the last used last
_KEPT: OrderedDict[int, tuple[Plan, list[tuple[_Recorder, Program]]]] = OrderedDict()
_LOCK = Lock()


def program_for(plan: Plan | Program, denoiser: BaseDenoiser) -> Program:
    """``plan`` lowered for ``denoiser``; a program is returned as it is.

    Raises ConversionError where the network cannot give a kind that the plan reads.
    """
    if isinstance(plan, Program):
        return plan
    with _LOCK:
        kept = list(_KEPT[id(plan)][1]) if id(plan) in _KEPT else []
    for recorder, program in kept:
        if recorder.agrees(denoiser):
            return program
    recorder = _Recorder(denoiser)
    made = lower(plan, recorder)  # type: ignore[arg-type]
    recorder.denoiser = BaseDenoiser()  # keeps no network alive
    if plan.nfe <= LONGEST:
        with _LOCK:
            _KEPT[id(plan)] = (plan, [*kept[1 - PROGRAMS :], (recorder, made)])
            _KEPT.move_to_end(id(plan))
            while len(_KEPT) > PLANS:
                _KEPT.popitem(last=False)
    return made


def grid_for(where: GridRequest, schedule: Schedule, steps: int | None = None) -> Grid:
    """``where.build(schedule, steps)``; a named grid is kept for the next call with the same
    arguments."""
    length = where.steps if steps is None else steps
    if where.given or (length or 0) > LONGEST or not (immutable(schedule) and immutable(where)):
        return where.build(schedule, steps)
    return _named_grid(GRIDS.get(str(where.grid)), where, schedule, steps)


@lru_cache(maxsize=256)
def _named_grid(family: Any, where: GridRequest, schedule: Schedule, steps: int | None) -> Grid:
    """``family`` is part of the key: a name that is registered again is another grid."""
    return where.build(schedule, steps)


def forget_programs() -> None:
    """Empty the memory of this module."""
    _named_grid.cache_clear()
    with _LOCK:
        _KEPT.clear()

"""Layout frame of a time grid: the schedule, the first time and the kind of end.

A grid family is a function of a ``Frame`` and its options that returns all ``steps + 1`` times from
noise to data. There are two shapes. *Closed*: the points run from the first time to t_min,
followed by t_zero where ``final="zero"`` and sigma(t_min) > 0 (``steps`` points); otherwise t_min
is the last one (``steps + 1`` points). *Open*: ``steps`` points that stop short of t_min, then
t_zero or t_min.

With ``start`` a family lays out the same number of steps from ``start`` instead of t_max. Published
lists (ays, oss, gits) keep their curve and are resampled on the part of it below ``start``.

Families spaced in lam or rho use ``schedule.lam_start`` for t_max where alpha(t_max) = 0, and
``schedule.lam_end`` for t_min where sigma(t_min) = 0. Their first node is still t_max, and a last
step to t_min follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..base import Schedule


@dataclass(frozen=True)
class Frame:
    """What a grid family needs to place its times.

    Attributes:
        schedule: the noising path.
        steps: number of steps.
        top: the first time.
        final: ``zero`` or ``sigma_min``.
        shift: translation ``lam -> lam - log(shift)`` of grids spaced in t.
    """

    schedule: Schedule
    steps: int
    top: float
    final: str
    shift: float = 1.0

    @property
    def bottom(self) -> float:
        """t_min."""
        return self.schedule.t_min

    @property
    def end(self) -> float:
        """The last time of an open spacing."""
        return self.schedule.t_zero if self.final == "zero" else self.bottom

    @cached_property
    def reaches_zero(self) -> bool:
        """Whether sigma(t_min) = 0."""
        return bool(self.schedule.sigma(self.bottom) == 0.0)

    @property
    def train_steps(self) -> float:
        """T of the integer spacings: number of table entries up to the first time."""
        return self.top + 1.0

    @cached_property
    def lam_range(self) -> tuple[float, float]:
        """lam at the first time and at t_min, with lam_start and lam_end for infinite values."""
        first, last = self.schedule.lam(self.top), self.schedule.lam(self.bottom)
        return (self.schedule.lam_start if first == -math.inf else first), (
            self.schedule.lam_end if last == math.inf else last
        )

    def closed_count(self, infinite_end: bool) -> int:
        """Number of points of a closed spacing; ``infinite_end`` where t_min itself cannot be one
        of them."""
        return (
            self.steps
            if infinite_end or (self.final == "zero" and not self.reaches_zero)
            else self.steps + 1
        )

    def closed(self, times: list[float]) -> list[float]:
        """``times`` with the exact ends, followed by t_zero where the last point is not the end."""
        times[0] = self.top
        if len(times) > self.steps:
            return [*times[:-1], self.bottom]
        if len(times) > 1 and not self.reaches_zero:
            times[-1] = self.bottom
        return [*times, self.end]

    def open(self, times: list[float]) -> list[float]:
        """``times`` followed by the end."""
        return [*times, self.end]

    def warp(self, times: Any) -> list[float]:
        """Times of the shifted schedule: lam -> lam - log(shift)."""
        values = [float(t) for t in times]
        if self.shift == 1.0:
            return values
        return [self.schedule.shifted(t, self.shift) for t in values]

    @property
    def base_top(self) -> float:
        """The time that ``warp`` maps to the first time."""
        return self.top if self.shift == 1.0 else self.schedule.shifted(self.top, 1.0 / self.shift)

    def closed_in_lam(self, lams: Any) -> list[float]:
        """Times of a closed spacing given as half log-SNRs."""
        return self.closed(self.times_at(lams))

    def count_in_lam(self) -> int:
        """Number of points of a closed spacing in lam or rho."""
        return self.closed_count(self.reaches_zero)

    def in_lam(self, law: Callable[[Any], Any], drop_last: bool) -> list[float]:
        """Times at the half log-SNRs ``law(u)``, u from 1 to 0. With ``drop_last`` one point more
        is laid out and the last one dropped, which makes the spacing open."""
        if not drop_last:
            return self.closed_in_lam(law(ramp(self.count_in_lam())))
        return self.open([self.top, *self.times_at(law(ramp(self.steps + 1))[1:-1])])

    def times_at(self, lams: Any) -> list[float]:
        """Times of half log-SNRs."""
        return [float(t) for t in self.schedule.t_of_lam(np.asarray(lams))]


def ramp(n: int) -> Any:
    """``n`` numbers from 1 to 0 inclusive; [1] for n = 1."""
    return np.linspace(1.0, 0.0, n)


def resample(values: Any, n: int, first: float) -> Any:
    """``n`` points of the falling curve through ``values`` (linear in the index), from where it
    equals ``first`` to its end."""
    u = np.linspace(0.0, 1.0, len(values))
    begin = float(np.interp(-first, -np.asarray(values), u))
    return np.interp(np.linspace(begin, 1.0, n), u, values)

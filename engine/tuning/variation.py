"""Children of solvers: crossover and mutations.

Mutations are those of the search of Liu et al. 2023 (arXiv 2312.07243), with the values that it
draws. Changes are smaller and those of the times more frequent, which finds better solvers in as
many tries. Nodes are moved in half log-SNR, in units of the distance of their neighbours, so that a
change means the same on every path.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any

from ...plans.transforms.analytic_first_step import RULES
from ...schedules.base import Schedule
from .decisions import ANGLE, DATA, NOISE, NOISE_RHO, NOISE_T, Decision, Solver

#: probabilities: of a crossover; that it mixes the steps too; of a step that moves elsewhere; of
#: other times; of a change of each property; of each further step in it; of a first step without a
#: call
_CROSS, _MIX, _MOVE, _TIMES, _CHANGE, _STEP, _FIRST = 0.3, 0.5, 0.2, 0.7, 0.15, 0.1, 0.1
#: standard deviation of a change of the scale; the largest of a node, by the distance of its
#: neighbours, and how many decades below it may be
_SCALE, _SHIFT, _DECADES = 0.03, 0.3, 1.5
#: values of the properties with their probabilities
_VALUES: dict[str, tuple[Sequence[Any], Sequence[float]]] = {
    "order": ((1, 2, 3, 4), (0.2, 0.4, 0.3, 0.1)),
    "form": ((DATA, NOISE, ANGLE, NOISE_T, NOISE_RHO), (0.3, 0.3, 0.2, 0.1, 0.1)),
    "points": ((0, 1, 2, 3), (0.4, 0.3, 0.2, 0.1)),
    "correction": (("exact", "midpoint", "bh1"), (0.4, 0.4, 0.2)),
    "corrector": (("none", "pseudo"), (0.5, 0.5)),
}


@dataclass(frozen=True)
class Variation:
    """How children are made.

    Attributes:
        schedule: of the times.
        random: the source of all choices.
        moving: False keeps the times of the parents, for networks that round them.
    """

    schedule: Schedule
    random: Random
    moving: bool

    def child(self, parents: Sequence[Solver]) -> Solver:
        """A child of one or two of ``parents``, best first, which are chosen by rank."""
        ranks = range(len(parents), 0, -1)
        (first,) = self.random.choices(parents, ranks)
        if self._is(_CROSS):
            alike = [p for p in parents if len(p.steps) == len(first.steps)]
            first = self._crossed(first, self.random.choice(alike))
        if self.moving and self._is(_MOVE):
            first = self._reseated(first)
        if self.moving and self._is(_TIMES):
            first = first._replace(times=self._shifted(first.times))
        for name in _VALUES:
            if self._is(_CHANGE):
                first = self._changed(first, name)
        if self._is(_CHANGE):
            first = self._scaled(first)
        if self.moving and self._is(_FIRST):
            first = self._opened(first)
        return first._replace(steps=tuple(d.settled() for d in first.steps))

    def _is(self, probability: float) -> bool:
        return self.random.random() < probability

    def _crossed(self, a: Solver, b: Solver) -> Solver:
        """Times and each property from one of two solvers of as many steps; half of the time each
        step from one of them."""
        times = self.random.choice((a, b)).times
        if self._is(_MIX):
            pairs = zip(a.steps, b.steps, strict=True)
            return a._replace(times=times, steps=tuple(map(self.random.choice, pairs)))
        donors = {name: self.random.choice((a, b)).steps for name in Decision._fields}
        rows = zip(*donors.values(), strict=True)
        steps = tuple(
            Decision(*(getattr(d, name) for name, d in zip(donors, row, strict=True)))
            for row in rows
        )
        return a._replace(times=times, steps=steps)

    def _changed(self, solver: Solver, name: str) -> Solver:
        values, weights = _VALUES[name]
        (value,) = self.random.choices(values, weights)
        return self._at_steps(solver, lambda d: d._replace(**{name: value}))

    def _scaled(self, solver: Solver) -> Solver:
        return self._at_steps(
            solver, lambda d: d._replace(scale=d.scale + self.random.gauss(0.0, _SCALE))
        )

    def _at_steps(self, solver: Solver, change: Any) -> Solver:
        """``solver`` with ``change`` made in some steps, in one at least."""
        sure = self.random.randrange(len(solver.steps))
        return solver._replace(
            steps=tuple(
                change(d) if i == sure or self._is(_STEP) else d for i, d in enumerate(solver.steps)
            )
        )

    def _lams(self, times: Sequence[float]) -> list[float]:
        return [float(self.schedule.lam(t)) for t in times]

    def _between(self, lams: Sequence[float], k: int) -> float:
        """Half log-SNR in the middle of step k; one half of the next step away where it is
        infinite."""
        a, b = lams[k], lams[k + 1]
        if math.isinf(a) or math.isinf(b):
            inner = [y - x for x, y in pairwise(lams) if math.isfinite(y - x)]
            gap = inner[0 if math.isinf(a) else -1] if inner else 1.0
            return b - 0.5 * gap if math.isinf(a) else a + 0.5 * gap
        return a + self.random.uniform(0.25, 0.75) * (b - a)

    def _time(self, lam: float) -> float:
        """The time of ``lam``, within the schedule."""
        highest, lowest = (
            float(self.schedule.lam(t)) for t in (self.schedule.t_low, self.schedule.t_max)
        )
        return float(self.schedule.node_at_lam(min(max(lam, lowest), highest)).t or 0.0)

    def _shifted(self, times: Sequence[float]) -> tuple[float, ...]:
        """Some inner times moved."""
        lams, made = self._lams(times), list(times)
        size = _SHIFT * 10.0 ** -self.random.uniform(0.0, _DECADES)
        for i in range(1, len(times) - 1):
            gaps = [abs(lams[j] - lams[i]) for j in (i - 1, i + 1)]
            gaps = [gap for gap in gaps if math.isfinite(gap)]
            if gaps and self._is(0.5):
                made[i] = self._time(lams[i] + self.random.gauss(0.0, size) * min(gaps))
        return tuple(made)

    def _reseated(self, solver: Solver) -> Solver:
        """One inner node taken out, and another put in elsewhere, each with its step."""
        if len(solver.steps) < 3:
            return solver
        return self._put(self._taken(solver), self.random.randrange(len(solver.steps) - 1))

    def _taken(self, solver: Solver) -> Solver:
        i = self.random.randrange(1, len(solver.steps))
        times = solver.times[:i] + solver.times[i + 1 :]
        return solver._replace(times=times, steps=solver.steps[:i] + solver.steps[i + 1 :])

    def _put(self, solver: Solver, k: int) -> Solver:
        """A node in step k, which becomes two alike."""
        new = self._time(self._between(self._lams(solver.times), k))
        times = (*solver.times[: k + 1], new, *solver.times[k + 1 :])
        return solver._replace(times=times, steps=(*solver.steps[: k + 1], *solver.steps[k:]))

    def _opened(self, solver: Solver) -> Solver:
        """The first step with or without a call, as many calls in all."""
        if not solver.afs:
            return self.opened(solver, self.random.choice(RULES))
        if self._is(0.5):
            return solver._replace(afs=self.random.choice(RULES))
        return self._taken(solver)._replace(afs="")

    def opened(self, solver: Solver, rule: str) -> Solver:
        """``solver`` with one more step, the first, that makes no call."""
        return self._put(solver, 0)._replace(afs=rule)

"""The stage ``space``: the best solver of a space of decisions, by an evolutionary search (USF, Liu
et al. 2023, arXiv 2312.07243).

It begins from the known solvers that are points of the space, at the times of the best untuned
plans. A child of the best solvers (``variation``) is judged by the geometric mean of its errors on
the trajectories of the fit, and takes its place among them. Whenever the best one changes it is
judged on the validation trajectories, which choose the result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from torch import Tensor

from ...checks import FewstepError
from ...plans.plan import Plan
from ...plans.transforms.analytic_first_step import RULES
from ..planning import plan as make_plan
from .candidate import Candidate, ranked
from .decisions import Solver, known
from .losses import score
from .problem import Problem
from .variation import Variation

#: parents; grids of the seeds; children in all, and without a gain before the end
_PARENTS, _GRIDS, _MOST, _PATIENCE = 15, 4, 6000, 1500
#: trajectories on which a network's child must not be worse than by this factor
_FIRST, _WORSE = 16, 1.3
#: populations that grow apart, by the rule of a first step without a call, before they meet
_ISLANDS = ("", "prior", "zero")
#: share of the time left that the search may take
_SHARE = 0.6
#: candidates that are added
_KEPT = 3


class _Member(NamedTuple):
    """A solver with its plan, its errors on the trajectories of the fit, and their score."""

    score: float
    solver: Solver
    plan: Plan
    errors: Tensor


def search_space(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, and the best solvers of the space that the validation finds better."""
    if problem.nfe < 2 or not problem.time_left:
        return list(candidates)
    best = {
        member.plan: problem.held_score(member.plan) for member in _evolved(problem, candidates)
    }
    chosen = sorted(best.items(), key=lambda item: item[1])[:_KEPT]
    least = min((c.score for c in candidates), default=math.inf)
    name = candidates[0].name if candidates else "space"
    made = [Candidate(plan, value, name, ("space",)) for plan, value in chosen if value < least]
    return ranked([*candidates, *made])


def _evolved(problem: Problem, candidates: Sequence[Candidate]) -> list[_Member]:
    """The last parents, and those that were the best for a time."""
    random = Random(problem.train.seeds[0])
    variation = Variation(problem.model.denoiser.schedule, random, problem.any_time)
    ends = time.monotonic() + _SHARE * (problem.ends_at - time.monotonic())
    seeds, found = _seeds(problem, candidates), list[_Member]()
    for rule in _ISLANDS if variation.moving else ("",):
        own = [variation.opened(solver, rule) for solver in seeds] if rule else seeds
        members = [made for solver in own if (made := _judged(problem, solver, [])) is not None]
        island = _Evolution(problem, variation, ends, frozenset((rule,)))
        found += island.run(members, _MOST // (2 * len(_ISLANDS)))
    whole = _Evolution(problem, variation, ends, frozenset(("", *RULES)))
    return [*found, *whole.run(found, _MOST // 2)]


@dataclass(frozen=True)
class _Evolution:
    """A population that grows better until ``ends``; ``rules``: those of the first step that its
    solvers may have."""

    problem: Problem
    variation: Variation
    ends: float
    rules: frozenset[str]

    def run(self, members: Sequence[_Member], tries: int) -> list[_Member]:
        """The last parents after so many ``tries``, and those that were the best for a time."""
        seen = {member.solver for member in members}
        parents = sorted(members, key=lambda member: member.score)[:_PARENTS]
        best, idle = list[_Member](), 0
        while parents and tries and idle < _PATIENCE and time.monotonic() < self.ends:
            tries, idle = tries - 1, idle + 1
            child = self.variation.child([member.solver for member in parents])
            if child in seen or child.afs not in self.rules:
                continue
            seen.add(child)
            made = _judged(self.problem, child, parents)
            if made is None or made.score >= parents[-1].score:
                continue
            if made.score < parents[0].score:
                best, idle = [*best, made], 0
            parents = sorted([*parents, made], key=lambda member: member.score)[:_PARENTS]
        return [*best, *parents]


def _seeds(problem: Problem, candidates: Sequence[Candidate]) -> list[Solver]:
    """The known solvers at the times of the candidates, and on one grid of their own."""
    schedule = problem.model.denoiser.schedule
    plans = [candidate.plan for candidate in candidates]
    plans.append(make_plan("ddim", schedule, steps=problem.nfe, grid="lam"))
    grids = dict.fromkeys(
        plan.recipe.grid.times
        for plan in plans
        if plan.recipe is not None and plan.recipe.grid.steps == problem.nfe
    )
    return [solver for times in [*grids][:_GRIDS] for solver in known(times)]


def _judged(problem: Problem, solver: Solver, parents: Sequence[_Member]) -> _Member | None:
    """The member of ``solver``; None where it does not run, or is plainly worse than the last of
    ``parents`` on the first trajectories."""
    try:
        plan = solver.plan(problem.model.denoiser.schedule)
    except FewstepError:
        return None
    if plan.nfe != problem.nfe:
        return None
    if parents and not problem.model.exact:
        first = problem.errors(plan, problem.train.part(slice(0, _FIRST)))
        if first is None or score(first) > _WORSE * score(parents[-1].errors[:_FIRST]):
            return None
    errors = problem.errors(plan, problem.train)
    value = math.inf if errors is None else score(errors)
    if errors is None or value == math.inf:
        return None
    return _Member(value, solver, plan, errors)

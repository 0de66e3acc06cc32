"""The stage ``search``: the best untuned plan, by successive halving over samplers and grids.

Every plan runs on a few trajectories, the best quarter of the plans on twice as many, and so on
(Jamieson and Talwalkar 2016, arXiv 1502.07943).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from ...checks import FewstepError
from ...plans.plan import Plan
from ...schedules.grids.request import GridRequest
from ..planning import request
from .candidate import Candidate, ranked
from .losses import score
from .problem import Problem

Options = Mapping[str, Any]
#: samplers with their options
SAMPLERS: tuple[tuple[str, Options], ...] = (
    ("auto", {}),
    ("ddim", {}),
    ("dpmpp_2m", {}),
    ("dpmpp_3m", {}),
    ("dpm_solver_2m", {}),
    ("dpm_solver_3", {}),
    ("unipc", {"order": 2}),
    ("unipc", {"order": 3}),
    ("deis", {"order": 2}),
    ("deis", {"order": 3}),
    ("ipndm", {"order": 2}),
    ("ipndm", {"order": 3}),
    ("ghvb", {"order": 2.5}),
    ("heun", {}),
)
#: grids with their options
GRIDS: tuple[tuple[str, Options], ...] = (
    ("auto", {}),
    ("lam", {}),
    ("lam", {"drop_last": True}),
    ("uniform", {}),
    ("karras", {}),
    ("karras", {"drop_last": True}),
    ("beta_t", {}),
    ("power", {"power": 1.5, "drop_last": True}),
    ("power", {"power": 2.0, "drop_last": True}),
    ("polyexponential", {"power": 0.8, "drop_last": True}),
)
#: trajectories of the first round, and plans that are kept at the end
_FIRST, _KEPT = 8, 8


class Entry(NamedTuple):
    """A plan with its name and its score so far."""

    plan: Plan
    name: str
    score: float


def search(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, and the best plans of ``SAMPLERS`` on ``GRIDS``."""
    best = halved(problem, entries(problem, [(s, o, words(s, o)) for s, o in SAMPLERS]))
    return ranked([*candidates, *best])


def halved(problem: Problem, entries: Sequence[Entry]) -> list[Candidate]:
    """The best of ``entries``."""
    entries = list(entries)
    count = _FIRST
    while True:
        count = min(count, len(problem.train.x))
        given = problem.train.part(slice(0, count))
        scored = []
        for entry in entries:
            errors = problem.errors(entry.plan, given)
            scored.append(entry._replace(score=math.inf if errors is None else score(errors)))
        entries = sorted(scored, key=lambda entry: entry.score)
        if count == len(problem.train.x) or len(entries) <= _KEPT or not problem.time_left:
            break
        entries, count = entries[: max(_KEPT, len(entries) // 4)], 2 * count
    best = [entry for entry in entries[:_KEPT] if entry.score < math.inf]
    return [Candidate(e.plan, problem.held_score(e.plan), e.name) for e in best]


def entries(problem: Problem, samplers: Sequence[tuple[str, Options, str]]) -> list[Entry]:
    """All plans of at most so many calls of ``samplers`` (name, options, both in words) on
    ``GRIDS``, each once."""
    found: dict[Plan, Entry] = {}
    for (sampler, options, said), (grid, more) in product(samplers, GRIDS):
        where = GridRequest(
            nfe=problem.nfe, grid=grid, options=tuple(more.items()), facts=problem.facts
        )
        try:
            plan = request(sampler, problem.model.denoiser.schedule, options, where).plan()
        except FewstepError:  # not for so few calls, or not on this path
            continue
        name = f"{said} on {words(grid, more)}"
        found.setdefault(plan, Entry(plan, name, math.inf))
    return list(found.values())


def words(name: str, options: Options) -> str:
    """A name with its options: ``unipc:order=3``."""
    words = ",".join(f"{key}={value}" for key, value in options.items())
    return f"{name}:{words}" if words else name

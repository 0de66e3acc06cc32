"""The stage ``search``: the best untuned plan, by successive halving over samplers and grids.

Every deterministic sampler of the registry, with the options that are certified, runs on the
automatic grid; the best of them and the usual ones run on all grids, on a few trajectories; the
best quarter of these plans on twice as many, and so on (Jamieson and Talwalkar 2016, arXiv
1502.07943).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

from ...checks import FewstepError
from ...plans.plan import Plan
from ...samplers import registry
from ...schedules.grids.request import GridRequest
from ..planning import request
from .candidate import Candidate, ranked
from .losses import score
from .problem import Problem

Options = Mapping[str, Any]
#: samplers with their options that are tried on all grids
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
#: trajectories of the first round, of models in float64 and of networks
_EXACT_FIRST, _NETWORK_FIRST = 8, 4
#: plans that are kept at the end
_KEPT = 8
#: further samplers of the registry that are tried on all grids
_FURTHER = 6


class Entry(NamedTuple):
    """A plan with its name and its score so far."""

    plan: Plan
    name: str
    score: float


def search(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, and the best plans of ``SAMPLERS`` and of the best ``others`` on
    ``GRIDS``."""
    tried = [*SAMPLERS, *_further(problem)]
    return ranked([*candidates, *halved(problem, entries(problem, _named(tried), GRIDS))])


@cache
def others() -> tuple[tuple[str, Options], ...]:
    """The deterministic samplers of the registry that are plans and read one prediction, with each
    set of options that is certified."""
    found: list[tuple[str, Options]] = []
    for name in registry.names():
        sampler = registry.get(name)
        if sampler.form != "plan" or sampler.guided:
            continue
        for given in ({}, *sampler.variants):
            options = registry.make_options(sampler, given, warn=False)
            if sampler.tau_of(options) == 0.0 and (name, given) not in SAMPLERS:
                found.append((name, given))
    return tuple(found)


def _further(problem: Problem) -> list[tuple[str, Options]]:
    """The best ``others`` on the automatic grid."""
    given = problem.train.part(slice(0, _first(problem)))
    scored: dict[Plan, tuple[float, tuple[str, Options]]] = {}
    for sampler, options in others():
        (found,) = entries(problem, _named([(sampler, options)]), GRIDS[:1]) or (None,)
        if found is None or found.plan in scored:
            continue
        errors = problem.errors(found.plan, given)
        reached = math.inf if errors is None else score(errors)
        scored[found.plan] = (reached, (sampler, options))
    best = sorted(scored.values(), key=lambda pair: pair[0])
    return [named for reached, named in best[:_FURTHER] if reached < math.inf]


def _first(problem: Problem) -> int:
    return _EXACT_FIRST if problem.model.exact else _NETWORK_FIRST


def _named(samplers: Sequence[tuple[str, Options]]) -> list[tuple[str, Options, str]]:
    return [(name, options, words(name, options)) for name, options in samplers]


def halved(problem: Problem, entries: Sequence[Entry]) -> list[Candidate]:
    """The best of ``entries``."""
    entries = list(entries)
    count = _first(problem)
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


def entries(
    problem: Problem,
    samplers: Sequence[tuple[str, Options, str]],
    grids: Sequence[tuple[str, Options]],
) -> list[Entry]:
    """All plans of at most so many calls of ``samplers`` (name, options, both in words) on
    ``grids``, each once."""
    found: dict[Plan, Entry] = {}
    for (sampler, options, said), (grid, more) in product(samplers, grids):
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

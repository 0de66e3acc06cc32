"""The stage ``statistics``: DPM-Solver-v3 with statistics of the model among the plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from .candidate import Candidate, ranked
from .problem import Problem
from .search import GRIDS, entries, halved, words
from .statistics import NODES, statistics_of

SAMPLER = "dpm_solver_v3"
#: orders, correctors, and kinds of predictor
ORDERS, CORRECTORS, PSEUDO = (1, 2, 3), ("none", "equal", "pseudo", "full"), (False, True)


def choices() -> list[dict[str, Any]]:
    """Options of the sampler; those that make the same plan are left out."""
    return [
        {"order": order, "corrector": corrector} | ({"p_pseudo": True} if pseudo else {})
        for order, corrector, pseudo in product(ORDERS, CORRECTORS, PSEUDO)
        if (order > 1 or corrector in ("none", "full")) and (order > 2 or not pseudo)
    ]


def search_with_statistics(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, and the best plans of DPM-Solver-v3 with statistics that are estimated on the
    trajectories of the fit, as one number for all coordinates. A network that rounds times has
    none."""
    if not problem.any_time:
        return ranked(candidates)
    found = statistics_of(problem.model, problem.train, NODES, problem.fine_steps)
    samplers = [
        (SAMPLER, {**chosen, "statistics": found}, words(SAMPLER, chosen)) for chosen in choices()
    ]
    best = [
        replace(candidate, stages=("statistics",))
        for candidate in halved(problem, entries(problem, samplers, GRIDS))
    ]
    return ranked([*candidates, *best])

"""The stage ``restarts``: the joint fit again from random numbers near the best ones, since a fit
ends at the first minimum that it meets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .candidate import Candidate, ranked
from .joint import fit_all
from .problem import Problem
from .table import Numbers, Table

#: fits, and how far each begins from the best: in weights, and in distances of nodes
_TRIES, _FAR = 6, 0.05


def fit_again(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, and what fits near the best make of it. Nothing for networks, whose fits take
    minutes."""
    found = list(candidates)
    draws = np.random.default_rng(0)
    for _ in range(_TRIES if problem.model.exact and problem.any_time else 0):
        best = found[0]
        table = best.numbers(problem)
        near = None if table is None else shaken(table, draws)
        if not problem.time_left or table is None:
            break
        if near is None:
            continue
        start = best.after("restarts", near, problem.held_score(near.plan()))
        found = ranked([*found, *fit_all(problem, [start])])
    return found


def shaken(table: Table, draws: np.random.Generator) -> Table | None:
    """``table`` with normal numbers added; None where its nodes no longer rise."""
    inner = table.inner
    if len(inner) == 0:
        return None
    gaps = np.diff(np.concatenate(([inner[0] - 1.0], inner, [inner[-1] + 1.0])))
    moves: Numbers = _FAR * draws.standard_normal(len(inner)) * np.minimum(gaps[:-1], gaps[1:])
    weights = table.weights + _FAR * np.tril(draws.standard_normal(table.weights.shape), -1)
    return table.moved(inner + moves, table.labels + moves, weights)

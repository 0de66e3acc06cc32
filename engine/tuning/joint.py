"""The stages ``coefficients`` and ``joint``: all free weights of a plan at once, and with them its
nodes and labels, by least squares on the end of the run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from .candidate import Candidate, ranked
from .least_squares import Family, fit
from .problem import Problem
from .table import Numbers, Table
from .tangents import Free, free_numbers, linearised, moved

#: candidates that are fitted, as long as there is time: of models in float64 and of networks
_EXACT_STARTS, _NETWORK_STARTS = 3, 2


def fit_coefficients(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The weights, at the nodes of the candidate."""
    return _fitted(problem, candidates, "coefficients", ("weight",))


def fit_jointly(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Weights, nodes and labels; weights alone where the network rounds the times that it is told.

    For models in float64, which cost little, the kinds are freed one after another: such fits end
    elsewhere than those of all kinds at once.
    """
    found = list(candidates)
    if problem.model.exact or not problem.any_time:
        found = fit_coefficients(problem, found)
    if problem.model.exact and problem.any_time:
        found = _fitted(problem, found, "joint", ("weight", "node"))
    return fit_all(problem, found) if problem.any_time else found


def fit_all(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Weights, nodes and labels at once."""
    return _fitted(problem, candidates, "labels", ("weight", "node", "label"))


def _fitted(
    problem: Problem, candidates: Sequence[Candidate], stage: str, kinds: Sequence[str]
) -> list[Candidate]:
    """The candidates, and what the fit makes of the first of them that are tables."""
    found, done = list(candidates), 0
    starts = _EXACT_STARTS if problem.model.exact else _NETWORK_STARTS
    for candidate in candidates:
        table = candidate.numbers(problem)
        if done == starts or not problem.time_left:
            break
        if table is None:
            continue
        done += 1
        free = free_numbers(table.calls, kinds)
        if not free:
            continue
        family = Family[Table](
            plan=Table.plan,
            linearised=partial(_slopes, problem=problem, free=free),
            moved=partial(_moved, free=free),
        )
        made = fit(family, table, problem)
        if made.score < candidate.score:
            found.append(candidate.after(stage, made.point, made.score))
    return ranked(found)


def _slopes(table: Table, problem: Problem, free: Sequence[Free]) -> tuple[Tensor, Tensor]:
    return linearised(table, problem.model, problem.train, free)


def _moved(table: Table, step: Numbers, free: Sequence[Free]) -> Table | None:
    return moved(table, free, step)

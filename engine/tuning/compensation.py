"""The stage ``compensation``: DC-Solver's ratios for a model (Zhao et al. 2024, arXiv 2409.03755).

The ratio of each step, one after another, is the one that brings the corrected state after the step
next to the converged state at its node (``samplers.multistep.dc_solver``). A state is a sum of the
predictions so far, whose coefficients the plan tells, so a trial of a ratio makes one network call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...checks import FewstepError
from ...plans.instructions import Combine
from ...plans.plan import Plan
from ...plans.transforms.skipped_calls import lagrange
from ...samplers.multistep.dc_solver import BEFORE
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..planning import plan as make_plan
from .candidate import Candidate, ranked
from .losses import pseudo_huber, sample_errors
from .problem import Problem
from .table import Numbers, linear_values
from .trajectories import states_at

SAMPLER, ORDERS = "dc_solver", (2, 3)
#: the ratios that are searched, the width at which the search ends, and a gain that is none
LEAST, MOST = -1.0, 3.0
_WIDTH, _GAIN = 1e-3, 1e-3
#: grids of the candidates, and starts that are fitted
_GRIDS, _STARTS = 3, 2


#: the errors of the samples at a ratio
Errors = Callable[[float], Tensor]
#: the coefficients of the states after a step at a ratio
Rows = Callable[[float], tuple[Numbers, Numbers]]


class Start(NamedTuple):
    """UniPC of an order on a grid, and its validation score."""

    order: int
    grid: Grid
    score: float
    place: str

    def plan(self, ratios: Sequence[float] = ()) -> Plan:
        """The plan with these ratios."""
        return make_plan(
            SAMPLER, self.grid.schedule, grid=self.grid, order=self.order, ratios=tuple(ratios)
        )


def fit_compensation(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, and DC-Solver on the grids of the best of them."""
    found = list(candidates)
    for start in _starts(problem, candidates):
        if not problem.time_left:
            break
        try:
            ratios = compensate(problem, start)
            made = start.plan(ratios)
        except FewstepError:  # NaN, or nodes at which the converged states cannot be had
            continue
        if (score := problem.held_score(made)) < start.score:
            name = f"{SAMPLER}:order={start.order} on {start.place}"
            found.append(Candidate(made, score, name, ("compensation",)))
    return ranked(found)


def _starts(problem: Problem, candidates: Sequence[Candidate]) -> list[Start]:
    """The best of UniPC of each order on the grids of the candidates."""
    grids: dict[tuple[float, ...], tuple[Grid, str]] = {}
    for candidate in candidates if problem.nfe > BEFORE else ():
        recipe = candidate.plan.recipe
        if recipe is not None and recipe.grid.steps == problem.nfe:
            place = candidate.name.rpartition(" on ")[2]
            grids.setdefault(recipe.grid.times, (recipe.grid, place))
    found = []
    for grid, place in list(grids.values())[:_GRIDS]:
        for order in ORDERS:
            start = Start(order, grid, math.inf, place)
            try:
                score = problem.held_score(start.plan())
            except FewstepError:
                continue
            found.append(start._replace(score=score))
    return sorted(found, key=lambda start: start.score)[:_STARTS]


def compensate(problem: Problem, start: Start) -> tuple[float, ...]:
    """The ratio of each step, the first ``BEFORE`` of them 1."""
    given, model = problem.train, problem.model
    nodes, steps = start.grid.nodes, start.grid.steps
    first = BEFORE + (nodes[0].alpha == 0.0)
    wanted = [*states_at(model, given, nodes[1:-1], problem.fine_steps), given.end]
    ratios, known, state = [1.0] * steps, [given.x], given.x
    for i in range(steps):
        known.append(model.x0(state, nodes[i], given.cond))
        rows = _rows_after(start, ratios, i, i >= first)

        def errors(ratio: float, i: int = i, rows: Rows = rows) -> Tensor:
            return sample_errors(_after(problem, rows(ratio), nodes[i + 1], known), wanted[i])

        if i >= first:
            ratios[i] = _best(errors)
        state = _summed(rows(ratios[i])[0], known)
    return tuple(ratios)


def _best(errors: Errors) -> float:
    """The ratio of the least pseudo-Huber loss, on the scale of the errors at 1."""
    delta = max(float(errors(1.0).median()), 1e-300)
    return least_at(lambda ratio: pseudo_huber(errors(ratio), delta))


def _rows_after(start: Start, ratios: Sequence[float], i: int, free: bool) -> Rows:
    """The coefficients of the predicted and of the corrected state after step ``i``, by its ratio:
    parabolas, as they are linear in the compensated prediction, and it is a parabola in the ratio.
    """
    places, tables = [0.0, 1.0, 2.0] if free else [1.0], []
    node = start.grid.nodes[i + 1]
    for ratio in places:
        plan = start.plan([*ratios[:i], ratio, *ratios[i + 1 :]])
        values = linear_values(plan)
        claimed = [c.out for c in plan.code if isinstance(c, Combine) and c.node == node]
        last = i + 1 == plan.nfe
        first = plan.result if last else plan.evaluations[i + 1].state
        tables.append((values[first], values[first] if last else values[claimed[-1]]))

    def rows(ratio: float) -> tuple[Numbers, Numbers]:
        shares = lagrange(places, ratio)
        first, second = (sum(w * t[k] for w, t in zip(shares, tables, strict=True)) for k in (0, 1))
        return np.asarray(first), np.asarray(second)

    return rows


def _after(
    problem: Problem, rows: tuple[Numbers, Numbers], node: Node, known: Sequence[Tensor]
) -> Tensor:
    """The state at ``node``, corrected with the prediction there where the sampler does."""
    predicted = _summed(rows[0], known)
    if len(rows[1]) == len(known) or not rows[1][len(known)]:
        return _summed(rows[1], known)
    return _summed(rows[1], [*known, problem.model.x0(predicted, node, problem.train.cond)])


def _summed(row: Numbers, known: Sequence[Tensor]) -> Tensor:
    """The sum of the start state and the predictions with the coefficients ``row``."""
    total = torch.zeros_like(known[0])
    for c, value in zip(row, known, strict=False):
        total = total + float(c) * value
    return total


def least_at(value: Callable[[float], float]) -> float:
    """The place of the least value between ``LEAST`` and ``MOST``, by golden section; 1 where
    nothing is gained."""
    share = 0.5 * (math.sqrt(5.0) - 1.0)
    low, high = LEAST, MOST
    at = [high - share * (high - low), low + share * (high - low)]
    found = [value(a) for a in at]
    while high - low > _WIDTH:
        if found[0] < found[1]:
            high = at[1]
            at = [high - share * (high - low), at[0]]
            found = [value(at[0]), found[0]]
        else:
            low = at[0]
            at = [at[1], low + share * (high - low)]
            found = [found[1], value(at[1])]
    best = round(at[0] if found[0] < found[1] else at[1], 6)
    return best if min(found) < (1.0 - _GAIN) * value(1.0) else 1.0

"""The stage ``distill``: weights and nodes of a plan for any loss on its end states.

Where autograd follows the loss and the model, the numbers are moved by L-BFGS (Liu and Nocedal
1989, doi 10.1007/BF01589116) on derivatives that are propagated backwards through the plan
(``adjoint``); those by the nodes are differences. Elsewhere the nodes and one weight of each row
are moved by Powell's method (1964, doi 10.1093/comjnl/7.2.155) without derivatives. The loss of
other start states stops the fit and chooses the plan, untuned and fitted ones included.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ...checks import FewstepError
from .adjoint import weight_slopes
from .candidate import Candidate
from .metric import Metric, told
from .problem import Problem
from .table import FEW_DIGITS, Numbers, Table
from .trajectories import Trajectories, TuneError

#: unit of a number of the fit, and steps of differences by nodes, for models in float64 and in less
_UNIT, _STEP, _COARSE = 0.1, 1e-4, 1e-2
#: a smaller loss by less than this share is none; smaller losses in the fit without one in the
#: validation before the end; evaluations in all
_GAIN, _PATIENCE, _MOST = 1e-3, 15, 3000


class _Ended(FewstepError):
    """The fit is over: no time, or no gain in the validation."""


class Route(NamedTuple):
    """How a fit moves: ``gradient`` or ``derivative-free``, and why."""

    name: str
    why: str


class _Fit:
    """A fit on its way: the best table by the loss of the validation."""

    def __init__(self, problem: Problem, metric: Metric, table: Table, held: float) -> None:
        self.problem, self.metric, self.start = problem, metric, table
        self.best, self.held = table, held
        self.least, self.idle, self.tries = math.inf, 0, 0
        rows, columns = np.tril_indices(table.calls, -1)
        self.below = (rows, columns)
        self.nodes = table.calls - 1 if problem.any_time else 0

    def table(self, weights: Numbers, nodes: Numbers) -> Table | None:
        """The start with these changes of the weights below the diagonal and of the nodes."""
        made, inner = self.start.weights.copy(), self.start.inner.copy()
        made[self.below] += _UNIT * weights
        inner[: len(nodes)] += _UNIT * nodes
        return self.start.moved(inner, self.start.labels + (inner - self.start.inner), made)

    def split(self, z: Numbers) -> tuple[Numbers, Numbers]:
        """Changes of all weights and of the nodes, one after the other."""
        return z[: len(self.below[0])], z[len(self.below[0]) :]

    def few(self, z: Numbers) -> tuple[Numbers, Numbers]:
        """Changes of one weight of each row, that of the prediction before the newest, and of the
        nodes."""
        weights = np.zeros(len(self.below[0]))
        weights[self.below[0] - self.below[1] == 1] = z[: self.start.calls - 1]
        return weights, z[self.start.calls - 1 :]

    def loss(self, table: Table | None) -> float:
        """The loss on the trajectories of the fit; inf where the plan does not run."""
        if self.tries >= _MOST or not self.problem.time_left:
            raise _Ended
        self.tries += 1
        if table is None:
            return math.inf
        return loss_of(self.problem, self.metric, table, self.problem.train)

    def seen(self, table: Table, value: float) -> None:
        """Judge a table of a smaller loss on the validation; raise where that ends the fit."""
        if not value < self.least - _GAIN * abs(self.least) and self.least < math.inf:
            return
        self.least, self.idle = value, self.idle + 1
        held = loss_of(self.problem, self.metric, table, self.problem.held)
        if held < self.held - _GAIN * abs(self.held):
            self.best, self.held, self.idle = table, held, 0
        if self.idle > _PATIENCE:
            raise _Ended


def loss_of(problem: Problem, metric: Metric, table: Table, given: Trajectories) -> float:
    """The loss of a table's end states, inf where it is no number."""
    try:
        end = problem.model.run(table.plan(FEW_DIGITS), given.x, given.cond)
    except FewstepError:
        return math.inf
    return metric.value(end, given.cond)


def distil(
    problem: Problem, starts: Sequence[Candidate], metric: Metric, tell: Callable[[str], None]
) -> tuple[Candidate, dict[str, Any]]:
    """The best of ``starts`` and of what a fit makes of each, by the loss of the validation, and
    what is said of it."""
    began, held = time.monotonic(), problem.held
    judged: list[tuple[float, Candidate]] = []
    for start in dict.fromkeys(starts):
        end = problem.model.run(start.plan, held.x, held.cond)
        judged.append((metric.value(end, held.cond), start))
    judged.sort(key=lambda pair: pair[0])
    route = Route("none", "no plan has free numbers, or no time was left")
    for value, start in list(judged):
        table = start.numbers(problem)
        if table is None or table.calls < 2 or value == math.inf or not problem.time_left:
            continue
        fit = _Fit(problem, metric, table, value)
        route = _route(fit)
        _moved(fit, route)
        if fit.best is not table:
            made = start.after("distill", fit.best, problem.held_score(fit.best.plan()))
            judged.append((fit.held, made))
    judged.sort(key=lambda pair: pair[0])
    value, best = judged[0]
    spent = round(time.monotonic() - began, 2)
    if value == math.inf:
        route = Route("none", "the loss of no plan is a number")
    tell(f"distill: validation loss {value:.4g} ({route.name}) in {spent} s")
    said = {"name": metric.name, "route": route.name, "why": route.why, "seconds": spent}
    return best, {**said, "calls": metric.calls, "validation": told(value)}


def _route(fit: _Fit) -> Route:
    """By derivatives where the loss and the model have them."""
    given, table = fit.problem.train, fit.start
    try:
        end = fit.problem.model.run(table.plan(FEW_DIGITS), given.x, given.cond)
        slope = fit.metric.slope(end, given.cond)
        if slope is None:
            return Route("derivative-free", "autograd finds no derivative of the loss")
        weight_slopes(table, fit.problem.model, given.part(slice(0, 2)), slope[:2])
    except TuneError:
        raise
    except (FewstepError, RuntimeError) as error:
        return Route("derivative-free", str(error).partition("\n")[0])
    return Route("gradient", "loss and model are differentiable")


def _moved(fit: _Fit, route: Route) -> None:
    """Move the numbers until the fit is over."""
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    try:
        if route.name == "gradient":
            z = np.zeros(len(fit.below[0]) + fit.nodes)
            minimize(lambda z: _sloped(fit, z), z, jac=True, method="L-BFGS-B")
        else:
            z = np.zeros(fit.start.calls - 1 + fit.nodes)
            minimize(lambda z: _plain(fit, fit.few(z)), z, method="Powell")
    except _Ended:
        return


def _plain(fit: _Fit, changes: tuple[Numbers, Numbers]) -> float:
    table = fit.table(*changes)
    value = fit.loss(table)
    if table is None or value == math.inf:
        return _far(fit)
    fit.seen(table, value)
    return value


def _far(fit: _Fit) -> float:
    """The loss that stands for none: finite, so that a line search turns back."""
    return 1e3 * (1.0 + abs(fit.least)) if math.isfinite(fit.least) else 1e30


def _sloped(fit: _Fit, z: Numbers) -> tuple[float, Numbers]:
    """The loss and its derivatives by all numbers."""
    changes = fit.split(z)
    table, given, model = fit.table(*changes), fit.problem.train, fit.problem.model
    value = _plain(fit, changes)
    if table is None or value == _far(fit):
        return value, np.zeros_like(z)
    slope = fit.metric.slope(model.run(table.plan(), given.x, given.cond), given.cond)
    assert slope is not None
    found = [*weight_slopes(table, model, given, slope)[fit.below]]
    h = (_STEP if model.exact else _COARSE) / _UNIT
    for i in range(fit.nodes):
        for step in (h, -h):  # backwards where a node is at the end of the schedule
            near = changes[1].copy()
            near[i] += step
            beside = fit.loss(fit.table(changes[0], near))
            if beside < math.inf:
                found.append((beside - value) / step / _UNIT)
                break
        else:
            found.append(0.0)
    return value, _UNIT * np.array(found)


def distilled(
    problem: Problem,
    best: Candidate,
    untuned: Candidate,
    metric: Metric,
    unseen: Trajectories,
    tell: Callable[[str], None],
) -> tuple[Candidate, dict[str, Any]]:
    """The candidate that the loss chooses, with the coefficients that a file keeps, and the entry
    ``loss`` of the report."""
    found, about = distil(problem, (best, untuned), metric, tell)
    if found.table is not None:
        found = replace(found, plan=found.table.plan(FEW_DIGITS))
    ends = {
        name: problem.model.run(candidate.plan, unseen.x, unseen.cond)
        for name, candidate in (("tuned", found), ("untuned", untuned))
    }
    return found, {"loss": {**about, "test": metric.compared(ends, unseen.cond)}}

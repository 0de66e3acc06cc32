"""The Levenberg-Marquardt method on a pseudo-Huber loss, with early stopping.

A step solves ``(J W J' + mu D) d = -J W r`` for the residuals r, their derivatives J, the weights W
of ``losses.huber_weights`` and the diagonal D of ``J W J'`` (Marquardt 1963, doi 10.1137/0111030).
The scale of the loss is the median error, so half of the samples count fully, and samples that end
at another mode count little. After each step the plan is judged on other trajectories; the best one
is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from torch import Tensor

from ...plans.plan import Plan
from .losses import huber_weights, pseudo_huber, sample_errors
from .problem import Problem
from .table import Numbers

#: first damping, its factor, and the least
_DAMPING, _FACTOR, _LEAST = 1e-3, 4.0, 1e-9
#: tries of larger damping in one step; steps without a gain before the end; steps in all
_TRIES, _PATIENCE, _MOST = 8, 6, 60
#: a gain below this share is none
_GAIN = 1e-3

P = TypeVar("P")


class Family(NamedTuple, Generic[P]):
    """The points of a fit: the plan of a point, its ends and their derivatives (numbers, B,
    *shape), and the point after a step, None where there is none."""

    plan: Callable[[P], Plan]
    linearised: Callable[[P], tuple[Tensor, Tensor]]
    moved: Callable[[P, Numbers], P | None]


class Fitted(NamedTuple, Generic[P]):
    """The best point, its score on the validation trajectories, and the steps made."""

    point: P
    score: float
    steps: int


def fit(family: Family[P], start: P, problem: Problem) -> Fitted[P]:
    """The point of the least validation score on the way from ``start``."""
    best, score = start, problem.held_score(family.plan(start))
    point, damping, idle, steps = start, _DAMPING, 0, 0
    while steps < _MOST and idle < _PATIENCE and problem.time_left:
        found = _step(family, point, problem, damping)
        if found is None:
            break
        point, damping = found
        steps += 1
        now = problem.held_score(family.plan(point))
        idle += 1
        if now < score * (1.0 - _GAIN):
            best, score, idle = point, now, 0
    return Fitted(best, score, steps)


def _step(family: Family[P], point: P, problem: Problem, damping: float) -> tuple[P, float] | None:
    """The next point and the next damping; None where no damping makes the loss smaller."""
    end, slopes = family.linearised(point)
    wanted = problem.train.end
    errors = sample_errors(end, wanted)
    delta = max(float(errors.median()), 1e-300)
    loss = pseudo_huber(errors, delta)
    roots = huber_weights(errors, delta).sqrt()
    residuals = ((end - wanted).flatten(1) * roots[:, None]).flatten()
    rows = (slopes.flatten(2) * roots[None, :, None]).flatten(1)
    square, gradient = (v.cpu().numpy() for v in (rows @ rows.T, rows @ residuals))
    diagonal = np.diag(square)
    scale = np.maximum(diagonal, 1e-12 * diagonal.max(initial=1e-300))
    for _ in range(_TRIES):
        step = np.linalg.solve(square + damping * np.diag(scale), -gradient)
        made = family.moved(point, step) if np.isfinite(step).all() else None
        if made is not None:
            now = problem.train_errors(family.plan(made))
            value = math.nan if now is None else pseudo_huber(now, delta)
            if value < loss:
                return made, max(damping / _FACTOR, _LEAST)
        damping *= _FACTOR
    return None

"""The Levenberg-Marquardt method on a pseudo-Huber loss, with early stopping.

A step solves ``(J W J' + mu D) d = -J W r`` for the residuals r, their derivatives J, the weights W
of ``losses.huber_weights`` and the diagonal D of ``J W J'`` (Marquardt 1963, doi 10.1137/0111030).
The scale of the loss is the median error, so half of the samples count fully, and samples that end
at another mode count little. Derivatives cost many runs of the plan, so as long as they foretell
the loss well they are not made anew, but corrected by what each step shows (Broyden's method).
After each step the plan is judged on other trajectories; the best one is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
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
#: derivatives are kept for the next step where the loss falls by this share of what they foretell
_FORESEEN = 0.5

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
    point, model, damping, idle, steps, longest = start, None, _DAMPING, 0, 0, 0.0
    while steps < _MOST and idle < _PATIENCE and problem.time_for(longest):
        fresh, began = model is None, time.monotonic()
        model = _Linear(*family.linearised(point)) if model is None else model
        found = _step(family, point, problem, damping, model)
        if found is None and fresh:
            break
        if found is None:  # the derivatives are those of other points: make them anew
            model = None
            continue
        point, damping = found.point, found.damping
        model = model.moved(found) if found.as_foreseen else None
        steps += 1
        now = problem.held_score(family.plan(point))
        idle += 1
        if now < score * (1.0 - _GAIN):
            best, score, idle = point, now, 0
        longest = max(longest, time.monotonic() - began)
    return Fitted(best, score, steps)


class _Step(NamedTuple, Generic[P]):
    """A step that makes the loss smaller: the next point, its ends, the change of its numbers, the
    next damping, and whether the loss fell about as much as the derivatives foretold."""

    point: P
    end: Tensor
    change: Numbers
    damping: float
    as_foreseen: bool


class _Linear(NamedTuple):
    """Ends (B, *shape) and their derivatives (numbers, B, *shape)."""

    end: Tensor
    slopes: Tensor

    def moved(self, step: _Step[P]) -> _Linear:
        """The same at the next point, without a network call: the derivatives change least so that
        they explain the change of the ends (Broyden 1965, doi 10.2307/2003941)."""
        change = torch.from_numpy(step.change).to(self.slopes)
        missed = step.end - self.end - torch.tensordot(change, self.slopes, dims=1)
        share = change / change.square().sum()
        return _Linear(step.end, self.slopes + share.reshape(-1, *(1,) * missed.ndim) * missed)


def _step(
    family: Family[P], point: P, problem: Problem, damping: float, model: _Linear
) -> _Step[P] | None:
    """The next point; None where no damping makes the loss smaller."""
    wanted = problem.train.end
    errors = sample_errors(model.end, wanted)
    delta = max(float(errors.median()), 1e-300)
    loss = pseudo_huber(errors, delta)
    roots = huber_weights(errors, delta).sqrt()
    residuals = ((model.end - wanted).flatten(1) * roots[:, None]).flatten()
    rows = (model.slopes.flatten(2) * roots[None, :, None]).flatten(1)
    square, gradient = (v.cpu().numpy() for v in (rows @ rows.T, rows @ residuals))
    diagonal = np.diag(square)
    scale = np.maximum(diagonal, 1e-12 * diagonal.max(initial=1e-300))
    for _ in range(_TRIES):
        step = np.linalg.solve(square + damping * np.diag(scale), -gradient)
        made = family.moved(point, step) if np.isfinite(step).all() else None
        end = None if made is None else problem.end(family.plan(made), problem.train)
        if made is not None and end is not None:
            value = pseudo_huber(sample_errors(end, wanted), delta)
            if value < loss:
                foretold = -(gradient + 0.5 * square @ step) @ step / len(residuals)
                as_foreseen = bool(loss - value > _FORESEEN * foretold)
                return _Step(made, end, step, max(damping / _FACTOR, _LEAST), as_foreseen)
        damping *= _FACTOR
    return None

"""The derivative of a loss on the ends of a table by its weights, by backpropagation through the
plan.

The end states are made without a graph, the loss gives their cotangent, and the exact discrete
adjoint of the run (``grad="checkpoint"``) gives the derivative by every coefficient: one more pass
forward and one backward, however many weights there are.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ...plans.instructions import Combine, Evaluate
from ...plans.plan import Plan
from ...plans.transforms.parameters import padded
from ..sampling import run
from .table import Numbers, Table
from .trajectories import Model, Trajectories, rows_of


def weight_slopes(table: Table, model: Model, given: Trajectories, slope: Tensor) -> Numbers:
    """The derivatives (calls, calls) of a loss by the weights below the diagonal, whose diagonal
    follows, for its derivative ``slope`` (B, *shape) by the end states. GradientError for a model
    that autograd cannot follow."""
    plan = _whole(table)
    (theta,) = plan.parameters("coefficients").values()
    theta.requires_grad_()
    total = torch.zeros_like(theta)
    for rows in model.batches(given.x):
        own = rows_of(given.cond, torch.arange(len(given.x))[rows])
        x = given.x[rows].clone().requires_grad_()  # so that a model without a graph is refused
        with torch.enable_grad():
            end = run(
                plan,
                model.denoiser,
                x,
                cond=own,
                grad="checkpoint",
                plan_parameters={"coefficients": theta},
            )
            loss = (end * slope[rows].to(end)).sum()
        (found,) = torch.autograd.grad(loss, theta)
        total += found
    model.rows_called += 2 * plan.nfe * len(given.x)
    return _by_weights(table, plan, total.cpu().numpy())


def _whole(table: Table) -> Plan:
    """The plan with a term for every weight, at coefficient 0 too."""
    share = np.tril(np.ones_like(table.weights))
    return padded(table.plan(), replace(table, weights=share / share.sum(1, keepdims=True)).plan())


def _by_weights(table: Table, plan: Plan, found: Numbers) -> Numbers:
    """Derivatives by coefficients as those by weights."""
    calls: dict[int, int] = {}
    slopes, left, k = np.zeros_like(table.weights), iter(found.tolist()), 0
    for i in plan.code:
        if isinstance(i, Evaluate):
            calls[i.outs[0][0]] = len(calls)
        elif isinstance(i, Combine):
            for (value, _), number in zip(i.terms, left, strict=False):
                if value in calls:
                    slopes[k, calls[value]] = number
            k += 1
    for k, (s, t) in enumerate(pairwise(table.nodes)):
        slopes[k] *= t.alpha - s.alpha * t.sigma / s.sigma
        slopes[k] -= slopes[k, k]
    return np.tril(slopes, -1)

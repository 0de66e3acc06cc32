"""The run of a table on trajectories, with the derivatives of its end by the free numbers.

With T_j the derivative of the prediction D_j, the derivative S of the state obeys the recursion of
the state itself,

    S_{k+1} = e_k S_k + c_k sum_j w_{kj} T_j + (derivatives of e_k, c_k and w_{kj} themselves),
    T_k = dD_k/dx S_k + dD_k/dlam (lam of call k)',

and dD/dx S is a difference of the model's prediction at ``x + h S``: no backpropagation, one batch
of calls for all numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ...plans.running.loop import StepState
from ...schedules.node import Node
from .table import Numbers, Table
from .trajectories import Model, Trajectories

#: step in half log-SNR of the differences by the time that the network is told
_STEP, _COARSE_STEP = 1e-4, 1e-2


class Free(NamedTuple):
    """One free number of a table: ``weight`` (k, j), the ``node`` of call k (its label moves along)
    or the ``label`` of call k; it matters from call ``since`` on."""

    since: int
    kind: str
    k: int
    j: int = 0


def free_numbers(calls: int, kinds: Sequence[str]) -> list[Free]:
    """The free numbers of ``kinds`` of a table of ``calls`` calls, in the order in which they begin
    to matter."""
    found = []
    if "weight" in kinds:
        found += [Free(k + 1, "weight", k, j) for k in range(calls) for j in range(k)]
    for kind in ("node", "label"):
        if kind in kinds:
            found += [Free(k, kind, k) for k in range(1, calls)]
    return sorted(found)


def moved(table: Table, free: Sequence[Free], step: Numbers) -> Table | None:
    """``table`` with ``step`` added to its free numbers; None where its nodes do not rise."""
    inner, labels, weights = table.inner.copy(), table.labels.copy(), table.weights.copy()
    for number, change in zip(free, step, strict=True):
        if number.kind == "weight":
            weights[number.k, number.j] += change
        if number.kind == "node":
            inner[number.k - 1] += change
        if number.kind != "weight":
            labels[number.k - 1] += change
    return table.moved(inner, labels, weights)


def linearised(
    table: Table, model: Model, given: Trajectories, free: Sequence[Free]
) -> tuple[Tensor, Tensor]:
    """The ends (B, *shape) of ``table`` and their derivatives (len(free), B, *shape)."""
    states, data, end = _recorded(table, model, given)
    told = table.told
    tangents: list[Tensor] = []
    slope = given.x.new_zeros(0, *given.x.shape)
    for k, (s, t) in enumerate(pairwise(table.nodes)):
        active = sum(number.since <= k for number in free)
        slope = _grown(slope, active)
        tangents.append(_of_prediction(model, given, states[k], told[k], data[k], slope))
        own = [i for i, f in enumerate(free) if f.k == k and f.kind != "weight"]
        if own:
            tangents[k][own] += _by_label(model, given, states[k], told[k])
        after = _grown(slope, sum(number.since <= k + 1 for number in free))
        slope = _stepped(table.weights[k, : k + 1], s, t, after, tangents)
        for i, number in enumerate(free[: len(slope)]):
            slope[i] += _own_change(number, k, s, t, states[k], data, table.weights[k])
    return end, slope


def _recorded(
    table: Table, model: Model, given: Trajectories
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """States and predictions of x0 of each call, and the end."""
    states = [torch.empty_like(given.x) for _ in range(table.calls)]
    data = [torch.empty_like(given.x) for _ in range(table.calls)]

    def watch(rows: slice, step: StepState) -> None:
        states[step.index][rows] = step.x
        data[step.index][rows] = step.outputs["x0"]

    return states, data, model.run(table.plan(), given.x, given.cond, watch)


def _grown(slope: Tensor, rows: int) -> Tensor:
    """``slope`` with rows of zeros up to ``rows``."""
    more = slope.new_zeros(rows - len(slope), *slope.shape[1:])
    return torch.cat((slope, more))


def _columns(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def _of_prediction(
    model: Model, given: Trajectories, x: Tensor, node: Node, data: Tensor, slope: Tensor
) -> Tensor:
    """dD/dx times the rows of ``slope``."""
    found = torch.zeros_like(slope)
    size = x.square().mean().sqrt()
    lengths = slope.flatten(1).square().mean(1).sqrt()
    rows = torch.nonzero(lengths > 0.0).flatten()
    if len(rows):
        h = _columns(model.share * size / lengths[rows], slope)
        near = x + h * slope[rows]
        made = model.x0(near.flatten(0, 1), node, given.cond, len(rows)).view_as(near)
        found[rows] = (made - data) / h
    return found


def _by_label(model: Model, given: Trajectories, x: Tensor, node: Node) -> Tensor:
    """dD/dlam by the time that the network is told, one-sided at the ends of the schedule."""
    schedule = model.denoiser.schedule
    step = _STEP if model.exact else _COARSE_STEP
    highest, lowest = (float(schedule.lam(t)) for t in (schedule.t_low, schedule.t_max))
    ends = (min(node.lam + step, highest), max(node.lam - step, lowest))
    high, low = (model.x0(x, schedule.node_at_lam(lam), given.cond) for lam in ends)
    return (high - low) / (ends[0] - ends[1])


def _stepped(
    weights: Numbers, s: Node, t: Node, slope: Tensor, tangents: Sequence[Tensor]
) -> Tensor:
    """``e S + c sum_j w_j T_j``."""
    e = t.sigma / s.sigma
    total = t.alpha - e * s.alpha
    slope = e * slope
    for w, tangent in zip(weights, tangents, strict=True):
        slope[: len(tangent)] += total * float(w) * tangent
    return slope


def _own_change(
    number: Free,
    k: int,
    s: Node,
    t: Node,
    x: Tensor,
    data: Sequence[Tensor],
    weights: Numbers,
) -> Tensor | float:
    """The derivative of step k itself by a free number, at fixed states and predictions."""
    e = t.sigma / s.sigma
    if number.kind == "weight" and number.k == k:
        return (t.alpha - e * s.alpha) * (data[number.j] - data[k])
    if number.kind != "node" or number.k not in (k, k + 1):
        return 0.0
    if number.k == k + 1:
        alpha, sigma = _rates(t)
        by_e, by_total = sigma / s.sigma, alpha
    else:
        alpha, sigma = _rates(s)
        by_e, by_total = -e * sigma / s.sigma, -e * alpha
    mean = sum((float(w) * d for w, d in zip(weights, data, strict=False)), torch.zeros_like(x))
    return by_e * x + (by_total - by_e * s.alpha) * mean


def _rates(node: Node) -> tuple[float, float]:
    """d alpha / d lam and d sigma / d lam, from ``dlam = dalpha / alpha - dsigma / sigma``."""
    assert node.dalpha is not None and node.dsigma is not None
    rate = node.dalpha / node.alpha - node.dsigma / node.sigma
    return node.dalpha / rate, node.dsigma / rate

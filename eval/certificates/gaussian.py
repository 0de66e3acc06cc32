"""Weak order without Monte Carlo: the exact distribution of a stochastic plan's result on Gaussian
data.

For ``x0 ~ N(m, s^2)`` the prediction ``D = m + alpha s^2 / v (x - alpha m)``,
``v = alpha^2 s^2 + sigma^2``, is affine in the state, so the last state is
``offset + gain x_T + sum_k c_k z_k``. The coefficients come from the transposed plan: one pass over
its instructions from the last to the first carries the derivative of the result, at the cost of
one run instead of one run per noise. Mean and variance of the last state follow exactly and are
compared with ``alpha m`` and ``v``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import NamedTuple

from ...plans.instructions import Evaluate
from ...plans.plan import Plan
from ...schedules.kinds import parts
from ...schedules.node import Node

MEAN, STD = 0.7, 0.5


class Affine(NamedTuple):
    """The last state as ``offset + gain x_T + sum_k noise[k] z_k``."""

    offset: float
    gain: float
    noise: tuple[float, ...]


def prediction(kind: str, node: Node, mean: float = MEAN, std: float = STD) -> tuple[float, float]:
    """``(gain, offset)`` of the exact prediction of ``kind`` on the data ``N(mean, std^2)``:
    ``gain x + offset``."""
    variance = (node.alpha * std) ** 2 + node.sigma**2
    x0_gain = node.alpha * std**2 / variance
    x0_offset = mean * (1.0 - x0_gain * node.alpha)
    eps_gain = node.sigma / variance
    u, w = parts(kind, node)
    return u * x0_gain + w * eps_gain, u * x0_offset - w * eps_gain * node.alpha * mean


def last_state(plan: Plan, mean: float = MEAN, std: float = STD) -> Affine:
    """The result of ``plan`` on data ``N(mean, std^2)`` as an affine function, by the transposed
    plan."""
    weight: dict[int, float] = defaultdict(float, {plan.result: 1.0})
    noise = [0.0] * len(plan.draws)
    offsets = []
    for i in reversed(plan.code):
        if isinstance(i, Evaluate):
            for value, kind, _ in i.outs:
                gain, offset = prediction(kind, i.node, mean, std)
                w = weight.pop(value, 0.0)
                weight[i.state] += w * gain
                offsets.append(w * offset)
            continue
        w = weight.pop(i.out, 0.0)
        for value, c in i.terms:
            weight[value] += w * c
        for key, c in i.noise:
            noise[key] += w * c
    return Affine(math.fsum(offsets), weight[0], tuple(noise))


def weak_errors(plan: Plan) -> tuple[float, float]:
    """Absolute errors of mean and variance of the last state, from the exact marginal at the
    first."""
    return law_errors(last_state(plan), plan.start, plan.end)


def law_differences(
    out: Affine, start: Node, end: Node, mean: float = MEAN, std: float = STD
) -> tuple[float, float]:
    """Mean and variance of ``out`` minus those of the marginal at ``end`` when the first state has
    the exact law at ``start``."""
    found = out.offset + out.gain * start.alpha * mean
    variance = out.gain**2 * ((start.alpha * std) ** 2 + start.sigma**2) + math.fsum(
        c * c for c in out.noise
    )
    return found - end.alpha * mean, variance - (end.alpha * std) ** 2 - end.sigma**2


def law_errors(out: Affine, start: Node, end: Node) -> tuple[float, float]:
    """Absolute errors of the mean and variance of ``out`` at ``end`` when the first state has the
    exact law at ``start``."""
    mean, variance = law_differences(out, start, end)
    return abs(mean), abs(variance)

"""What peers do where three nodes are used, in place of the exact quadratic: each is of second
order.

With weights ``w_j`` on nodes at distances ``theta_j`` from s in units of the step, moment k is
``sum w_j theta_j^k``. Adding a multiple of the divided difference
``c_j = 1 / prod_{i != j} (theta_j - theta_i)`` changes moment 2 and leaves 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ...plans.weights.exponential import Weights
from ...plans.weights.node_distances import rho_gap
from ...schedules.node import Node


def _shifted(w: Weights, theta: Sequence[float], amount: float) -> Weights:
    """``w`` with ``amount`` times the second divided difference added."""
    (a, b, c), (u, v, x) = theta, w.values
    first, second, third = (
        1.0 / ((a - b) * (a - c)),
        1.0 / ((b - a) * (b - c)),
        1.0 / ((c - a) * (c - b)),
    )
    return Weights(w.carry, (u + amount * first, v + amount * second, x + amount * third), w.noise)


def halve_third_moment(w: Weights, s: Node, t: Node, nodes: Sequence[Node]) -> Weights:
    """The third-order multistep of every peer: their second difference is half of ``h^2 x''``
    (order 2, see ``dpmpp_3m_compat``)."""
    h = t.lam - s.lam
    if not math.isfinite(h):
        return w
    theta = [(n.lam - s.lam) / h for n in nodes]
    third = sum([v * q * q for v, q in zip(w.values, theta, strict=True)])
    return _shifted(w, theta, -0.5 * third)


def onesided_derivative(w: Weights, s: Node, t: Node, nodes: Sequence[Node]) -> Weights:
    """ER-SDE of the authors: ``D + d (rho - rho_s) + d2/2 (rho - rho_s)^2`` with the backward
    difference d for the derivative, which is ``d + d2/2 (rho_s - rho_1)`` (order 2). ``nodes``
    begin at s."""
    step = rho_gap(s, t)
    theta = [rho_gap(s, n) / step for n in nodes]
    first = sum([v * q for v, q in zip(w.values, theta, strict=True)])
    return _shifted(w, theta, first * theta[1])


THIRDS: dict[str, Callable[[Weights, Node, Node, Sequence[Node]], Weights]] = {
    "halved": halve_third_moment,
    "onesided": onesided_derivative,
}

"""``DerivativePoints``: a step whose first derivative comes from other predictions than the rest
(Liu et al. 2023, arXiv 2312.07243, sec. 3: low-order estimation and scaling).

With ``theta_j`` the distance of prediction j from s in units of the step, the exact weights of p
nodes are those of a Taylor expansion at s, ``sum_k mu_k a_k``, where ``a_k`` is coefficient k of
the polynomial through the predictions and ``mu_k = sum_j w_j theta_j^k``. Here ``a_1`` becomes
``(1 + c h) b_1``, with ``b_1`` that of the polynomial through s and n other predictions:

    w_j' = w_j + mu_1 ((1 + c h) b_1j - a_1j),    h = lam_t - lam_s

``b_1`` has an error of order h^n, so a step of p nodes has order ``min(p, n + 1)``, and at most 2
where c is not 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...plans.weights.lagrange import Weights
from ...plans.weights.node_distances import GAPS, finite, lam_gap
from ...schedules.node import Node
from .weight_rules import Interpolation


@dataclass(frozen=True)
class DerivativePoints:
    """Weights of ``rule`` with another first derivative.

    Attributes:
        rule: the weights of the polynomial.
        order: number of past predictions of the polynomial, p.
        points: past predictions besides s of the first derivative; 0: p - 1.
        scale: the factor of the first derivative is ``1 + scale h``.

    A corrector adds the prediction at t to both.
    """

    rule: Interpolation
    order: int
    points: int = 0
    scale: float = 0.0

    @property
    def kind(self) -> str:
        """The kind of prediction of ``rule``."""
        return self.rule.kind

    @property
    def noisy(self) -> bool:
        """Whether ``rule`` draws noise."""
        return self.rule.noisy

    def weights(self, s: Node, t: Node, nodes: Sequence[Node]) -> Weights:
        """See ``recurrence.Rule``."""
        more = int(nodes[0] == t)
        count = min(self.order + more, len(nodes))
        exact = self.rule.weights(s, t, nodes[:count])
        found = min((self.points or self.order - 1) + more, len(nodes) - 1) + 1
        used = nodes[: max(count, found)]
        variable = "t" if self.kind == "velocity" else self.rule.variable
        values = [*exact.values, *(0.0 for _ in nodes[count:])]
        if count > 1 and all(finite(n, variable) for n in (s, t, *used)):
            gap = GAPS[variable]
            theta = [gap(s, n) / gap(s, t) for n in used]
            first = sum(w * q for w, q in zip(values, theta, strict=False))
            h = lam_gap(s, t)
            factor = 1.0 + self.scale * h if math.isfinite(h) else 1.0
            for j, b in enumerate(_slope(theta[:found])):
                values[j] += factor * first * b
            for j, a in enumerate(_slope(theta[:count])):
                values[j] -= first * a
        return Weights(exact.carry, tuple(values), exact.noise)


def _slope(theta: Sequence[float]) -> list[float]:
    """The weight of each value in the derivative at 0 of the polynomial through the points
    ``theta``, one of which is 0."""
    base = min(range(len(theta)), key=lambda j: abs(theta[j]))
    others = [j for j in range(len(theta)) if j != base]
    out = [0.0] * len(theta)
    for j in others:
        out[j] = 1.0 / theta[j]
        for i in others:
            if i != j:
                out[j] *= theta[i] / (theta[i] - theta[j])
    out[base] = -sum(out)
    return out

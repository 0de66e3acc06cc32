"""The Lagrange basis of the nodes of a step, and the weights of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...checks import ArgumentError
from ...schedules.node import Node
from .node_distances import GAPS, Gap
from .phi import Array

#: nodes closer than this fraction of the step do not determine an interpolant in float64
_COINCIDENT = 1e-9

Map = Callable[[Array], Array]


class Weights(NamedTuple):
    """``x_t = carry * x_s + sum_j values[j] * m_j + noise * z``; ``values`` in the order of the
    nodes given."""

    carry: float
    values: tuple[float, ...]
    noise: float


class Basis(NamedTuple):
    """The Lagrange basis of the nodes, all finite in ``variable`` like s and t: ``theta`` in units
    of the step from s, and ``scales[j] = prod_{i != j} (theta_j - theta_i)``, formed from the
    distances (``node_distances``)."""

    theta: tuple[float, ...]
    scales: tuple[float, ...]
    step: float

    @staticmethod
    def of(s: Node, t: Node, nodes: Sequence[Node], variable: str) -> Basis:
        """The basis for the step from s to t."""
        gap = GAPS[variable]
        step = gap(s, t)
        if step == 0.0:
            raise ArgumentError(
                f"a step between two different nodes at the same {variable}, t={s.t} and t={t.t}"
            )
        if len(nodes) == 2:
            a, b = nodes
            distance = gap(a, b)
            if abs(distance) > _COINCIDENT * abs(step):
                far = distance if a is s else gap(s, b)
                scales = (-distance / step, distance / step)
                return Basis((gap(s, a) / step, far / step), scales, step)
        return Basis._general(s, nodes, gap, step, variable)

    @staticmethod
    def _general(s: Node, nodes: Sequence[Node], gap: Gap, step: float, variable: str) -> Basis:
        """``of`` for any number of nodes; ArgumentError where two of them are too close."""
        scales = [1.0] * len(nodes)
        for i, a in enumerate(nodes):
            for j, b in enumerate(nodes[:i]):
                distance = gap(b, a)
                if abs(distance) <= _COINCIDENT * abs(step):
                    raise ArgumentError(
                        f"nodes {j} and {i} (t={b.t}, t={a.t}) are {abs(distance):.1e} apart "
                        f"in {variable}, on a step of {abs(step):.1e}; "
                        f"no interpolant goes through both: leave one out"
                    )
                scales[i] *= distance / step
                scales[j] *= -distance / step
        return Basis(tuple([gap(s, n) / step for n in nodes]), tuple(scales), step)

    def means(self, mu: Sequence[float]) -> list[float]:
        """Means of the basis, given the means ``mu_k`` of ``theta^k``."""
        if len(self.theta) == 2:  # most steps of most plans
            (a, b), (first, second) = self.theta, self.scales
            return [(mu[1] - b * mu[0]) / first, (mu[1] - a * mu[0]) / second]
        out = []
        if len(self.theta) == 3:  # the same numbers as below, by hand
            a, b, c = self.theta
            zeroth, mean, square = mu
            for p, q, scale in zip((b, a, a), (c, c, b), self.scales, strict=True):
                out.append(sum([p * q * zeroth, (-p - q) * mean, square]) / scale)
            return out
        for j, scale in enumerate(self.scales):
            numerator = monic((*self.theta[:j], *self.theta[j + 1 :]))
            out.append(sum([c * m for c, m in zip(numerator, mu, strict=True)]) / scale)
        return out

    def at(self, theta: Array) -> Array:
        """Values (nodes, points) at points in units of the step from s."""
        factors = [theta - q for q in self.theta]
        out = np.empty((len(factors), *theta.shape))
        for j, scale in enumerate(self.scales):
            row: Any = 1.0 / scale
            for factor in (*factors[:j], *factors[j + 1 :]):
                row = row * factor
            out[j] = row
        return out


def monic(roots: Sequence[float]) -> list[float]:
    """Coefficients of ``prod (x - root)``, constant first."""
    out = [1.0]
    for r in roots:
        out = [a - r * b for a, b in zip([0.0, *out], [*out, 0.0], strict=True)]
    return out

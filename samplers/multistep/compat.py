"""Weight rules that reproduce other toolkits where those differ from the published methods.

Two rules replace the exact quadratic through three nodes, and have second order instead of third.
For weights ``w_j`` on nodes at distances ``theta_j`` from s, in units of the step, moment k is
``sum w_j theta_j^k``. Adding a multiple of the divided difference
``c_j = 1 / prod_{i != j} (theta_j - theta_i)`` changes moment 2 and keeps moments 0 and 1.

    HalvedDifference      DPM-Solver(++) 3M in all toolkits: half of the second difference
    OneSidedDerivative    the authors' ER-SDE: backward difference for the first derivative

``OneRowCorrector`` is UniPC's "varying coefficients" in the authors' code. ``MisplacedAdams`` is
iPNDM_v in diff-sampler and ComfyUI.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...plans.weights.exponential import weights
from ...plans.weights.lagrange import Weights
from ...plans.weights.node_distances import lam_gap, rho_gap
from ...plans.weights.phi import phi
from ...schedules.node import Node
from .recurrence import Rule
from .weight_rules import Transfer


@dataclass(frozen=True)
class _ThreeNodes:
    """Base of rules that change the weights of ``rule`` when three nodes are used."""

    rule: Rule

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
        w = self.rule.weights(s, t, nodes)
        return self.changed(w, s, t, nodes) if len(nodes) == 3 else w

    def changed(self, w: Weights, s: Node, t: Node, nodes: Sequence[Node]) -> Weights:
        """Return the weights that replace ``w``, the exact weights of three nodes."""
        raise NotImplementedError


@dataclass(frozen=True)
class HalvedDifference(_ThreeNodes):
    """Third-order multistep as all other toolkits implement it: the second difference is half of
    ``h^2 x''``, which gives order 2 (see ``dpmpp_3m_compat``)."""

    def changed(self, w: Weights, s: Node, t: Node, nodes: Sequence[Node]) -> Weights:
        """Halve moment 2."""
        h = t.lam - s.lam
        if not math.isfinite(h):
            return w
        theta = [(n.lam - s.lam) / h for n in nodes]
        third = sum([v * q * q for v, q in zip(w.values, theta, strict=True)])
        return _shifted(w, theta, -0.5 * third)


@dataclass(frozen=True)
class OneSidedDerivative(_ThreeNodes):
    """ER-SDE as in the authors' code: ``D + d (rho - rho_s) + d2/2 (rho - rho_s)^2``.

    The backward difference d stands for the derivative, which is ``d + d2/2 (rho_s - rho_1)``; this
    gives order 2. ``nodes[0]`` must be s.
    """

    def changed(self, w: Weights, s: Node, t: Node, nodes: Sequence[Node]) -> Weights:
        """Subtract from moment 2 the product of moment 1 and the distance to the previous node."""
        step = rho_gap(s, t)
        theta = [rho_gap(s, n) / step for n in nodes]
        first = sum([v * q for v, q in zip(w.values, theta, strict=True)])
        return _shifted(w, theta, first * theta[1])


def _shifted(w: Weights, theta: Sequence[float], amount: float) -> Weights:
    """Add ``amount`` times the second divided difference to the weights ``w``."""
    (a, b, c), (u, v, x) = theta, w.values
    first, second, third = (
        1.0 / ((a - b) * (a - c)),
        1.0 / ((b - a) * (b - c)),
        1.0 / ((c - a) * (c - b)),
    )
    return Weights(w.carry, (u + amount * first, v + amount * second, x + amount * third), w.noise)


@dataclass(frozen=True)
class OneRowCorrector:
    """The ``vary_coeff`` corrector of UniPC as published in code; it differs from the paper.

    The code is wl-zhao/UniPC, ``multistep_uni_pc_vary_update``; its predictor is exact. With
    ``r_m = (lam_m - lam_s) / h`` of the past nodes and r_p = 1 of the new one,
    ``C_mk = r_m^(k-1) / k!`` and ``A = C^-1``, the derivatives ``h^k m^(k)`` are
    ``sum_m A_km D_m / r_m`` with ``D_m = m_m - m_s``. The step adds ``scale z phi_(k+1)(z)`` times
    each derivative. For p >= 2 the code omits the last derivative for the past nodes, and for the
    new node uses only row p - 1 with the factor of row p: first order. For p = 1 it is exact.
    """

    kind: str = "x0"
    noisy = False

    def weights(self, s: Node, t: Node, nodes: Sequence[Node]) -> Weights:
        """See ``recurrence.Rule``. A corrector's nodes are t, s and the past ones."""
        exact = weights(s, t, nodes, self.kind)
        h, p = lam_gap(s, t), len(nodes) - 1
        if nodes[0] != t or p < 2 or not math.isfinite(h):
            return exact
        z = -h if self.kind == "x0" else h
        r = [*(lam_gap(s, n) / h for n in nodes[2:]), 1.0]
        derivatives = np.linalg.inv([[q**k / math.factorial(k + 1) for k in range(p)] for q in r])
        scale = t.alpha if self.kind == "x0" else t.sigma
        factors = [-scale * z * phi(k + 2, z) for k in range(p)]
        past = [
            sum(factors[k] * derivatives[k, m] for k in range(p - 1)) / q
            for m, q in enumerate(r[:-1])
        ]
        new = factors[-1] * derivatives[p - 2, p - 1]
        total = math.fsum(exact.values)
        values = (float(new), float(total - new - sum(past)), *map(float, past))
        return Weights(exact.carry, values, exact.noise)


@dataclass(frozen=True)
class MisplacedAdams(Transfer):
    """iPNDM_v of zju-pi/diff-sampler and ComfyUI: variable-step Adams-Bashforth with errors in the
    formulas of orders 3 and 4."""

    def coefficients(self, s: Node, t: Node, nodes: Sequence[Node]) -> Sequence[float]:
        """Coefficients of that code for the most recent steps in rho."""
        rhos = [t.rho, *(node.rho for node in nodes)]
        return misplaced_adams([p - q for p, q in pairwise(rhos)])


def misplaced_adams(h: Sequence[float]) -> tuple[float, ...]:
    """Coefficients of diff-sampler's iPNDM_v for the steps ``h`` (newest first).

    The step is ``h[0] (e_0 + w_1 d_1 + w_2 d_2 + w_3 d_3)`` with the divided differences d_k scaled
    by h_1 h_2 .... w_1 is correct, w_2 has a misplaced bracket, w_3 has a wrong sign, and d_3 ends
    with a wrong ratio.
    """
    if len(h) == 1:
        return (1.0,)
    first = 0.5 * h[0] / h[1]
    if len(h) == 2:
        return 1.0 + first, -first
    a, r = h[0] / (3.0 * (h[0] + h[1])), h[1] / h[2]
    second = 0.5 * (1.0 - a * (h[0] * (h[0] + h[1])) / (h[1] * (h[1] + h[2])))
    if len(h) == 3:
        return 1.0 + first + second, -first - (1.0 + r) * second, r * second
    reach = h[0] + h[1] + h[2]
    b = 0.5 * (1.0 - a) + (1.0 - 0.5 * h[0] / (h[0] + h[1])) * h[0] / (6.0 * reach)
    third = b * h[0] * (h[0] + h[1]) * reach / (h[1] * (h[1] + h[2]) * (h[1] + h[2] + h[3]))
    q = h[1] * (h[1] + h[2]) / (h[2] * (h[2] + h[3]))
    return (
        1.0 + first + second + third,
        -first - (1.0 + r) * second - (1.0 + r + q) * third,
        r * second + (r + q * (1.0 + h[2] / h[3])) * third,
        -q * r * third,
    )

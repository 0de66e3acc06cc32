"""The corrector of UniPC's "varying coefficients" as its code has it: not the interpolation that it
stands for.

With ``r_m = (lam_m - lam_s) / h`` of the past nodes and r_p = 1 of the new one,
``C_mk = r_m^(k-1) / k!`` and ``A = C^-1``, the derivatives ``h^k m^(k)`` are
``sum_m A_km D_m / r_m`` with ``D_m = m_m - m_s``; the step adds ``scale z phi_(k+1)(z)`` times
each. The code (wl-zhao/UniPC, ``multistep_uni_pc_vary_update``) leaves the last derivative out for
the past nodes, and for the new one takes only row p - 1 with the factor of row p, where p >= 2:
first order. With p = 1 it is right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...plans.weights.exponential import Weights, weights
from ...plans.weights.node_distances import lam_gap
from ...plans.weights.phi import phi
from ...schedules.node import Node


def one_row_weights(s: Node, t: Node, nodes: Sequence[Node], kind: str) -> Weights:
    """Weights of that corrector from s to t; ``nodes`` is t, s and the past ones."""
    exact = weights(s, t, nodes, kind)
    h, p = lam_gap(s, t), len(nodes) - 1
    if p < 2 or not math.isfinite(h):
        return exact
    z = -h if kind == "x0" else h
    r = [*(lam_gap(s, n) / h for n in nodes[2:]), 1.0]
    derivatives = np.linalg.inv([[q**k / math.factorial(k + 1) for k in range(p)] for q in r])
    factors = [-(t.alpha if kind == "x0" else t.sigma) * z * phi(k + 2, z) for k in range(p)]
    past = [
        sum(factors[k] * derivatives[k, m] for k in range(p - 1)) / q for m, q in enumerate(r[:-1])
    ]
    new = factors[-1] * derivatives[p - 2, p - 1]
    total = math.fsum(exact.values)
    values = (float(new), float(total - new - sum(past)), *map(float, past))
    return Weights(exact.carry, values, exact.noise)

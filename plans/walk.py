"""The order walk: the order of a plan's steps in tenths of a second, without a network.

Put ``x0 = q(lam)^k`` in place of the network (eps, v and velocity follow from the current state; z = 0). An exact step then maps
``alpha P_k`` to ``alpha P_k`` with ``dP_k/dlam = kappa (lam^k - P_k)``, so ``P_0 = 1`` and ``P_k = lam^k - (k / kappa) P_{k-1}``
(kappa = 1 + tau^2, 1 for an ODE). The state is reset to that value at the last Combine claimed at each step boundary, stages are carried;
what was missing is the local defect. Its slope under refinement, minus one, is the walked order. Necessary, not sufficient.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..schedules.kinds import parts
from ..schedules.node import Node
from .instructions import Combine, Evaluate, Plan

#: defects below this are rounding
FLOOR = 1e-12


def exact_moments(lam: float, centre: float, degree: int, kappa: float = 1.0) -> np.ndarray:
    """``P_0 .. P_degree`` at ``lam`` for the monomials ``(lam - centre)^k``."""
    q, values = lam - centre, [1.0]
    for k in range(1, degree + 1):
        values.append(q**k - k / kappa * values[-1])
    return np.array(values)


def local_defects(plan: Plan, degree: int, kappa: float = 1.0) -> np.ndarray:
    """Local defects, (steps, degree + 1): state at each step boundary minus the exact one, from exact data at the boundary before."""
    boundaries = {node: j for j, node in enumerate(plan.nodes)}
    last = {i.node: n for n, i in enumerate(plan.code) if isinstance(i, Combine) and i.node in boundaries}
    centre = 0.5 * (plan.start.lam + plan.end.lam)

    def exact(node: Node) -> np.ndarray:
        return node.alpha * exact_moments(node.lam, centre, degree, kappa)

    values: dict[int, np.ndarray] = {0: exact(plan.start)}
    defects = np.zeros((plan.steps, degree + 1))
    for n, i in enumerate(plan.code):
        if isinstance(i, Evaluate):
            x, node = values[i.state], i.node
            x0 = (node.lam - centre) ** np.arange(degree + 1)
            eps = (x - node.alpha * x0) / node.sigma
            for value, kind in i.outs:
                u, w = parts(kind, node)
                values[value] = u * x0 + w * eps
            continue
        out = sum((c * values[v] for v, c in i.terms), np.zeros(degree + 1))
        if i.node in boundaries and last[i.node] == n:
            wanted = exact(i.node)
            defects[boundaries[i.node] - 1] = out - wanted
            out = wanted
        values[i.out] = out
    return defects


def walked_order(plan_of: Callable[[int], Plan], *, kappa: float = 1.0, degree: int = 6, steps: tuple[int, int] = (128, 256)) -> float:
    """The smallest local slope over monomials, minus one, between two step counts; inf when every defect is rounding.

    ``plan_of(n)`` must give the plan of n steps on one smooth grid between finite lam. Start-up and last steps are left out: only steps
    that begin in the middle half of the lam range count.
    """
    worst = []
    for n in steps:
        plan = plan_of(n)
        defects = np.abs(local_defects(plan, degree, kappa))
        a, b = plan.nodes[0].lam, plan.nodes[-1].lam
        inside = [0.25 <= (s.lam - a) / (b - a) <= 0.75 for s in plan.nodes[:-1]]
        scale = np.array([max(1.0, abs(0.5 * (b - a)) ** k) for k in range(degree + 1)])
        worst.append((defects[inside] / scale).max(axis=0))
        counts = plan.steps
        if n == steps[0]:
            first = counts
    ratio = math.log(counts / first)
    slopes = [math.log(c / f) / -ratio for c, f in zip(worst[1], worst[0], strict=True) if f > FLOOR and c > FLOOR / 100]
    return min(slopes, default=math.inf) - 1.0

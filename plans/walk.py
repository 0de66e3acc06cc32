"""The order walk: measures the order of a plan's steps without a network, in tenths of a second.

Replace the prediction of the network by ``x0 = q(lam)^k`` (eps, v and velocity follow from the
current state; z = 0). An exact step then maps ``alpha P_k`` to ``alpha P_k`` with
``dP_k/dlam = kappa (lam^k - P_k)``, so ``P_0 = 1`` and ``P_k = lam^k - (k / kappa) P_{k-1}``
(kappa = 1 + tau^2, 1 for an ODE). At the last state of each step boundary the difference from that
value is the local defect, and the state is reset to the value; stages are carried along. The slope
of the defect under refinement, minus one, is the walked order: a necessary condition for the order
of the sampler, not a sufficient one.

A jump (a state plus fresh noise and nothing else, to a noisier node: ancestral steps, churn) has
the exact law; the walk carries the defect across it and continues from the exact value there. A
plan that adds noise by jumps only solves the ODE between them: kappa is 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from ..checks import ArgumentError, instance, integer, number, shown
from ..schedules.kinds import parts
from ..schedules.node import Node
from .instructions import Combine, Evaluate
from .plan import Plan

#: the highest monomial, and the most steps of a plan that is walked
MOST_DEGREE, MOST_STEPS = 64, 100_000

#: defects below this are rounding
FLOOR = 1e-12
#: a defect below this share of the monomial's size is none
_EXACT = 1e-9

#: ``int kappa dlam`` from one half log-SNR (a number or an array) to a higher one, for a strength
#: that is not constant
Decay = Callable[[Any, float], Any]
_X, _W = (
    (np.polynomial.legendre.leggauss(16)[0] + 1.0) / 2.0,
    np.polynomial.legendre.leggauss(16)[1] / 2.0,
)


def exact_moments(lam: float, centre: float, degree: int, kappa: float = 1.0) -> np.ndarray:
    """``P_0 .. P_degree`` at ``lam`` for the monomials ``(lam - centre)^k``."""
    q, values = lam - centre, [1.0]
    for k in range(1, degree + 1):
        values.append(q**k - k / kappa * values[-1])
    return np.array(values)


def _moved_moments(
    values: np.ndarray, a: float, b: float, centre: float, decay: Decay
) -> np.ndarray:
    """Exact ``P_0 .. P_degree`` at ``b`` from those at ``a``: ``P_k = q^k + e^{-K} (P_k - q^k)(a) -
    k int e^{-K(lam, b)} q^{k-1} dlam``."""
    degree = len(values) - 1
    lam = a + (b - a) * _X
    weight = (b - a) * _W * np.exp(-decay(lam, b))
    integral = [0.0, *(k * float(weight @ (lam - centre) ** (k - 1)) for k in range(1, degree + 1))]
    powers = np.arange(degree + 1)
    moved: np.ndarray = (
        (b - centre) ** powers
        + math.exp(-decay(a, b)) * (values - (a - centre) ** powers)
        - np.array(integral)
    )
    return moved


def _exact_values(
    plan: Plan, degree: int, centre: float, kappa: float | Decay
) -> Callable[[Node], np.ndarray]:
    """The exact ``alpha P_k`` at any node; with a varying strength at the step boundaries."""
    if not callable(kappa):
        return lambda node: node.alpha * exact_moments(node.lam, centre, degree, kappa)
    found = {plan.nodes[0]: exact_moments(plan.nodes[0].lam, centre, degree)}
    for a, b in pairwise(plan.nodes):
        found[b] = _moved_moments(found[a], a.lam, b.lam, centre, kappa)
    return lambda node: node.alpha * found[node]


def jumps(plan: Plan) -> dict[int, int]:
    """For each value made by adding noise to a less noisy state: that state."""
    claims: dict[int, Node] = {0: plan.start}
    found = {}
    for i in plan.code:
        if isinstance(i, Combine) and i.node is not None:
            source = claims.get(i.terms[0][0]) if len(i.terms) == 1 and i.noise else None
            if source is not None and source.rho < i.node.rho:
                found[i.out] = i.terms[0][0]
            claims[i.out] = i.node
    return found


def local_defects(plan: Plan, degree: int, kappa: float | Decay = 1.0) -> np.ndarray:
    """Local defects, (steps, degree + 1): state at each step boundary minus the exact one, from
    exact data at the boundary before. No number where a step reads an infinite lam."""
    instance("plan", plan, Plan, "a plan, as fewstep.plan makes it,")
    integer("degree", degree, 0, MOST_DEGREE)
    if not callable(kappa):
        number("kappa", kappa, 0.0)
    boundaries = {node: j for j, node in enumerate(plan.nodes)}
    last = {
        i.node: n
        for n, i in enumerate(plan.code)
        if isinstance(i, Combine) and i.node in boundaries
    }
    ends = [node.lam for node in plan.nodes if math.isfinite(node.lam)] or [0.0]
    centre = 0.5 * (ends[0] + ends[-1])
    jumped = jumps(plan)
    if jumped and all(i.out in jumped for i in plan.code if isinstance(i, Combine) and i.noise):
        kappa = 1.0
    exact = _exact_values(plan, degree, centre, kappa)
    claims: dict[int, Node] = {0: plan.start}
    values: dict[int, np.ndarray] = {0: exact(plan.start)}
    defects = np.zeros((plan.steps, degree + 1))
    for n, i in enumerate(plan.code):
        if isinstance(i, Evaluate):
            x, node = values[i.state], i.node
            x0 = (node.lam - centre) ** np.arange(degree + 1)
            eps = (x - node.alpha * x0) / node.sigma
            for value, kind, _ in i.outs:
                u, w = parts(kind, node)
                values[value] = u * x0 + w * eps
            continue
        out = sum((c * values[v] for v, c in i.terms), np.zeros(degree + 1))
        if i.node is not None:
            claims[i.out] = i.node
            if i.out in jumped:
                out = out + exact(i.node) - i.terms[0][1] * exact(claims[jumped[i.out]])
        if i.node in boundaries and last[i.node] == n:
            wanted = exact(i.node)
            defects[boundaries[i.node] - 1] = out - wanted
            out = wanted
        values[i.out] = out
    return defects


def step_orders(plan: Plan, most: int = 6) -> list[int]:
    """The order to which each step is exact: the number of monomials ``1, lam, lam^2, ...`` of x0,
    at most ``most``, that it integrates without an error from exact data. 1 for a step that is
    right for a constant x0 only; the order of a sampler, which is a limit of small steps, can be
    higher. A step that reads an infinite lam, such as the last step to sigma = 0, is known for the
    constant only."""
    with np.errstate(all="ignore"):
        defects = np.abs(local_defects(plan, integer("most", most, 1, MOST_DEGREE) - 1))
    size = max((abs(n.lam) for n in plan.nodes if math.isfinite(n.lam)), default=1.0)
    found = []
    for row, node in zip(defects, plan.nodes[1:], strict=True):
        bounds = _EXACT * node.alpha * max(size, 1.0) ** np.arange(most)
        exact = row <= bounds  # False where a defect is no number
        found.append(most if exact.all() else int(np.argmin(exact)))
    return found


def walked_order(
    plan_of: Callable[[int], Plan],
    *,
    kappa: float | Decay = 1.0,
    degree: int = 6,
    steps: tuple[int, int] = (128, 256),
) -> float:
    """The smallest local slope over monomials, minus one, between two step counts; inf when every
    defect is rounding.

    ``plan_of(n)`` must give the plan of n steps on one smooth grid between finite lam. Start-up and
    last steps are left out: only steps that begin in the middle half of the lam range count. While
    the slope is further than 0.1 from a whole number, where terms of two orders nearly cancel, the
    step counts are doubled, up to eight times the given ones.
    """
    if not callable(plan_of):
        raise ArgumentError(
            f"plan_of={shown(plan_of)}: must be a function from a number of steps to a Plan"
        )
    if not isinstance(steps, (tuple, list)) or len(steps) != 2:
        raise ArgumentError(f"steps={shown(steps)}: must be two numbers of steps")
    if not integer("steps", steps[0], 1, MOST_STEPS) < integer("steps", steps[1], 1, MOST_STEPS):
        raise ArgumentError(f"steps={shown(steps)}: the second must be larger than the first")
    found = _slope(plan_of, kappa, degree, steps)
    for _ in range(3):
        if not math.isfinite(found) or abs(found - round(found)) <= 0.1:
            break
        steps = (steps[1], 2 * steps[1])
        finer = _slope(plan_of, kappa, degree, steps)
        if not math.isfinite(finer):
            break
        found = finer
    return found


def _slope(
    plan_of: Callable[[int], Plan], kappa: float | Decay, degree: int, steps: tuple[int, int]
) -> float:
    worst, counts = [], []
    for n in steps:
        plan = plan_of(n)
        defects = np.abs(local_defects(plan, degree, kappa))
        a, b = plan.nodes[0].lam, plan.nodes[-1].lam
        inside = [0.25 <= (s.lam - a) / (b - a) <= 0.75 for s in plan.nodes[:-1]]
        scale = np.array([max(1.0, abs(0.5 * (b - a)) ** k) for k in range(degree + 1)])
        worst.append((defects[inside] / scale).max(axis=0))
        counts.append(plan.steps)
    ratio = math.log(counts[1] / counts[0])
    slopes = [
        math.log(c / f) / -ratio
        for c, f in zip(worst[1], worst[0], strict=True)
        if f > FLOOR and c > FLOOR / 100
    ]
    return min(slopes, default=math.inf) - 1.0

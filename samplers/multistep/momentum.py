"""Momentum samplers: steps whose slope is a running mean of predictions.

Heavy-ball methods widen the region of stability, for few steps and strong guidance (Wizadwongsa et
al. 2023, arXiv 2307.11118). Gradient estimation extrapolates instead of averaging (Permenter & Yuan
2023, arXiv 2306.04848). All steps are ``y += (rho_t - rho_s) slope`` in ``y = x / alpha`` with eps
as the slope, or the one-node x0 step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...checks import ArgumentError, choice, flag, integer, number
from ...plans.builder import Expression, PlanBuilder, dot
from ...plans.plan import Plan
from ...plans.weights.exponential import adams, weights
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..registry import register
from .pndm import transfer
from .recurrence import Step, multistep
from .weight_rules import Transfer

#: Adams-Bashforth coefficients of backward differences, ``int_0^1 (-1)^j binom(-theta, j) dtheta``
_GAMMA = (1.0, 1 / 2, 5 / 12, 3 / 8, 251 / 720)


def damped_adams(k: int, beta: float) -> tuple[float, ...]:
    """GHVB weights of the last ``k`` running means ``v_i = (1 - beta) v_{i-1} + beta eps_i``,
    newest first, divided by beta.

    With the backward difference D, ``eps = (1 + (1 - beta)/beta D) v``, so the Adams series
    ``sum_j gamma_j D^j`` on eps is ``sum_j (gamma_j + (1 - beta)/beta gamma_{j-1}) D^j`` on v,
    truncated after k terms (arXiv 2307.11118, eq. 12).
    """
    if beta == 1.0:
        return adams(k)
    lag = (1.0 - beta) / beta
    series = [_GAMMA[j] + (lag * _GAMMA[j - 1] if j else 0.0) for j in range(k)]
    return tuple(
        (-1) ** m * sum(math.comb(j, m) * series[j] for j in range(m, k)) for m in range(k)
    )


@dataclass(frozen=True)
class DampedAdams(Transfer):
    """Weight rule of GHVB on stored running means."""

    beta: float = 1.0

    def coefficients(self, s: Node, t: Node, nodes: Sequence[Node]) -> Sequence[float]:
        """See ``damped_adams``."""
        return damped_adams(len(nodes), self.beta)


@dataclass(frozen=True)
class Extrapolation(Transfer):
    """Weight rule ``gamma e_0 + (1 - gamma) e_1``; only ``e_0`` in the first step and in a step to
    sigma = 0."""

    gamma: float = 2.0

    def coefficients(self, s: Node, t: Node, nodes: Sequence[Node]) -> Sequence[float]:
        """(gamma, 1 - gamma)."""
        if len(nodes) == 1 or t.sigma == 0.0:
            return (1.0, *(0.0,) * (len(nodes) - 1))
        return self.gamma, 1.0 - self.gamma


@dataclass(frozen=True)
class GHVB:
    """Options of GHVB.

    ``order``: r = k - 1 + beta; for example 1.8 means k = 2 nodes and beta = 0.8. Integers give
    plain Adams-Bashforth (iPNDM).
    """

    order: float = 1.8

    def __post_init__(self) -> None:
        number("order", self.order, 0.05, 5.0)
        if self.beta < 0.05:
            raise ArgumentError(
                f"order={self.order!r}: the fractional part beta={self.beta:.3g} "
                "must be at least 0.05"
            )

    @property
    def nodes(self) -> int:
        """Number k of running means that a step uses."""
        return math.ceil(self.order)

    @property
    def beta(self) -> float:
        """Weight of the new prediction in the running mean."""
        return self.order - (self.nodes - 1)


@dataclass(frozen=True)
class HeavyBall:
    """Options of ``heavy_ball``.

    ``beta``: weight of the new slope in the mean; ``nesterov``: use the mean one step ahead;
    ``base``: ipndm (with ``order`` nodes) or dpmpp_2m.
    """

    beta: float = 0.8
    base: str = "ipndm"
    order: int = 4
    nesterov: bool = False

    def __post_init__(self) -> None:
        number("beta", self.beta, 0.05, 1.0)
        choice("base", self.base, ("ipndm", "dpmpp_2m"))
        integer("order", self.order, 1, 4)
        flag("nesterov", self.nesterov)


@dataclass(frozen=True)
class GradientEstimation:
    """Options of gradient estimation.

    ``gamma``: the slope is ``gamma eps_i + (1 - gamma) eps_{i-1}``; 1 is Euler, 1.5 is two-step
    Adams-Bashforth for equal steps.
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        number("gamma", self.gamma, 0.0, 10.0)


@register(
    "ghvb",
    order=lambda o: min(o.nodes, 2),
    source="Wizadwongsa et al. 2023, arXiv 2307.11118, eq. 12 (generalised heavy ball)",
    variants=tuple({"order": r} for r in (0.8, 2.0, 2.5, 3.8, 4.5)),
)
def ghvb(b: PlanBuilder, grid: Grid, options: GHVB) -> Plan:
    """Generalised heavy ball: Adams-Bashforth on a running mean of the noise predictions; order k
    for equal steps in rho, else 2."""
    return multistep(
        b,
        grid,
        Step(DampedAdams(options.beta), options.nodes),
        lower_order_final=False,
        stored=lambda b, past, s, m: _mean(b, past[0][1] if past else None, m, options.beta),
    )


def _mean(b: PlanBuilder, before: Expression | None, new: Expression, beta: float) -> Expression:
    """Running mean ``(1 - beta) before + beta new``; the first value is ``new``."""
    return new if before is None or beta == 1.0 else b.value((1.0 - beta) * before + beta * new)


def _heavy_ball_order(o: HeavyBall) -> int:
    return 1 if o.beta < 1.0 else 2 if o.base == "dpmpp_2m" else min(o.order, 2)


@register(
    "heavy_ball",
    order=_heavy_ball_order,
    source="Wizadwongsa et al. 2023, arXiv 2307.11118, sec. 4.1 (HB, Polyak) and app. (Nesterov)",
    variants=(
        {"base": "dpmpp_2m"},
        {"nesterov": True},
        {"base": "dpmpp_2m", "nesterov": True},
        {"beta": 1.0},
        {"order": 2},
    ),
)
def heavy_ball(b: PlanBuilder, grid: Grid, options: HeavyBall) -> Plan:
    """Heavy-ball momentum on the slope of iPNDM (PLMS) or on the data prediction of DPM-Solver++
    2M; first order for beta < 1.

    A step to sigma = 0 uses no momentum, because a mean over earlier data predictions is not a
    sample.
    """
    x = b.start(grid[0])
    history: list[Expression] = []
    v: Expression | None = None
    h = 0.0
    for s, t in grid.pairs():
        data = options.base == "dpmpp_2m"
        history = [
            b.evaluate(x, s, "x0" if data else "eps"),
            *history[: 1 if data else options.order - 1],
        ]
        before, h = h, t.lam - s.lam
        new = (
            _half_difference(history, h / before if before else 0.0, t.sigma == 0.0)
            if data
            else dot(adams(len(history)), history)
        )
        v = _mean(b, v, new, options.beta)
        slope = (
            new
            if t.sigma == 0.0
            else (1.0 - options.beta) * v + options.beta * new
            if options.nesterov
            else v
        )
        if data:
            w = weights(s, t, [s], "x0")
            x = b.at(t, w.carry * x + w.values[0] * slope)
        else:
            x = b.at(t, transfer(x, slope, s, t))
    return b.finish(x)


def _half_difference(history: list[Expression], ratio: float, last: bool) -> Expression:
    """Data prediction that DPM-Solver++ 2M uses, ``m_0 + (h / 2 h_before) (m_0 - m_1)``; only
    ``m_0`` in the first step and in a step to sigma = 0."""
    return (
        history[0]
        if last or len(history) == 1
        else history[0] + (0.5 * ratio) * (history[0] - history[1])
    )


@register(
    "gradient_estimation",
    order=lambda o: 2 if o.gamma == 1.5 else 1,
    source="Permenter & Yuan 2023, arXiv 2306.04848, Alg. 2 (gamma = 2)",
    variants=({"gamma": 1.5}, {"gamma": 1.0}),
)
def gradient_estimation(b: PlanBuilder, grid: Grid, options: GradientEstimation) -> Plan:
    """Gradient estimation: Euler in rho along ``gamma eps_i + (1 - gamma) eps_{i-1}``; plain Euler
    in the first step and to sigma = 0."""
    return multistep(b, grid, Step(Extrapolation(options.gamma), 2), lower_order_final=False)

"""Pseudo numerical methods (Liu et al. 2022, arXiv 2202.09778, eqs. 11-13, Alg. 2): classical
weights on eps, exact transfer of the state.

Transfer from s to t with slope e: ``x_t = alpha_t (x / alpha_s + (rho_t - rho_s) e)``. The weights
are those of uniform grids, so every method here is second order at most where rho is not uniform,
whatever its number of nodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from ...checks import choice, flag, integer
from ...plans.builder import Expression, PlanBuilder, dot
from ...plans.instructions import Plan
from ...plans.weights.exponential import adams
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..registry import NoOptions, register
from .multistep import Scheme, multistep


def transfer(x: Expression, e: Expression, s: Node, t: Node) -> Expression:
    """``alpha_t (x / alpha_s + (rho_t - rho_s) e)``."""
    return (t.alpha / s.alpha) * x + (t.alpha * (t.rho - s.rho)) * e


def _halfway(grid: Grid, s: Node, t: Node) -> Node | None:
    """The node at the middle time; None where the step ends at sigma = 0 (the pseudo Runge-Kutta
    stage there would be evaluated at it)."""
    if t.sigma == 0.0 or s.t is None or t.t is None or not math.isfinite(t.t):
        return None
    return grid.at_t(0.5 * (s.t + t.t))


@dataclass(frozen=True)
class IPNDM:
    """``order``: number of past noise predictions."""

    order: int = 4

    def __post_init__(self) -> None:
        integer("order", self.order, 1, 4)


@dataclass(frozen=True)
class PNDM:
    """``variant``: F, three pseudo Runge-Kutta steps and then four noise predictions, or S, one
    pseudo Heun step and then two."""

    variant: str = "F"

    def __post_init__(self) -> None:
        choice("variant", self.variant, ("F", "S"))


@dataclass(frozen=True)
class VariableIPNDM(IPNDM):
    """``order``: number of past noise predictions."""

    lower_order_final: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        flag("lower_order_final", self.lower_order_final)


def _runge_kutta(
    b: PlanBuilder, x: Expression, e1: Expression, s: Node, middle: Node, t: Node
) -> Expression:
    """Slope of a pseudo Runge-Kutta step whose first evaluation is ``e1``."""
    e2 = b.evaluate(b.at(middle, transfer(x, e1, s, middle)), middle, "eps")
    e3 = b.evaluate(b.at(middle, transfer(x, e2, s, middle)), middle, "eps")
    e4 = b.evaluate(b.at(t, transfer(x, e3, s, t)), t, "eps")
    return (e1 + 2.0 * e2 + 2.0 * e3 + e4) / 6.0


@register(
    "pndm",
    order=2,
    source="Liu et al. 2022, arXiv 2202.09778, Alg. 2 (F-PNDM, S-PNDM)",
    variants=({"variant": "S"},),
)
def pndm(b: PlanBuilder, grid: Grid, options: PNDM) -> Plan:
    """F-PNDM: three pseudo Runge-Kutta steps, then four noise predictions; N + 9 evaluations.
    S-PNDM: N + 1."""
    x = b.start(grid[0])
    history: list[Expression] = []
    for i, (s, t) in enumerate(grid.pairs()):
        e = b.evaluate(x, s, "eps")
        history = [e, *history[: 3 if options.variant == "F" else 1]]
        middle = _halfway(grid, s, t) if i < 3 and options.variant == "F" else None
        if middle is not None:
            e = _runge_kutta(b, x, e, s, middle, t)
        elif i == 0 and t.sigma > 0.0 and options.variant == "S":
            e = 0.5 * (e + b.evaluate(b.at(t, transfer(x, e, s, t)), t, "eps"))
        else:
            e = dot(adams(len(history)), history)
        x = b.at(t, transfer(x, e, s, t))
    return b.finish(x)


@register(
    "plms",
    order=2,
    source="Liu et al. 2022, arXiv 2202.09778, with the start-up of CompVis and diffusers",
)
def plms(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """PLMS: a Heun-like first step, then two, three and four noise predictions; N + 1 evaluations
    (1 for one step)."""
    x = b.start(grid[0])
    history: list[Expression] = []
    for i, (s, t) in enumerate(grid.pairs()):
        e = b.evaluate(x, s, "eps")
        history = [e, *history[:3]]
        if i == 0 and t.sigma > 0.0:
            ahead = b.evaluate(b.at(t, transfer(x, e, s, t)), t, "eps")
            x = b.at(t, transfer(x, 0.5 * (e + ahead), s, t))
        else:
            x = b.at(t, transfer(x, dot(adams(len(history)), history), s, t))
    return b.finish(x)


@register(
    "ipndm",
    order=lambda o: min(o.order, 2),
    source="Zhang & Chen 2022, arXiv 2204.13902, sec. 3 (iPNDM)",
    variants=tuple({"order": p} for p in (1, 2, 3)),
)
def ipndm(b: PlanBuilder, grid: Grid, options: IPNDM) -> Plan:
    """Improved PNDM: uniform Adams-Bashforth weights from the first step on; N evaluations."""
    x = b.start(grid[0])
    history: list[Expression] = []
    for s, t in grid.pairs():
        history = [b.evaluate(x, s, "eps"), *history[: options.order - 1]]
        x = b.at(t, transfer(x, dot(adams(len(history)), history), s, t))
    return b.finish(x)


@register(
    "ipndm_v",
    order=lambda o: o.order,
    source="Zhang & Chen 2022, arXiv 2204.13902, eq. 15 with q = rho; variable-step Adams-Bashforth",
    variants=tuple({"order": p} for p in (1, 2, 3)),
)
def ipndm_v(b: PlanBuilder, grid: Grid, options: VariableIPNDM) -> Plan:
    """iPNDM with the Adams-Bashforth weights of the steps themselves: the same plans as LMS and
    DEIS rho-AB."""
    scheme = Scheme("eps", "rho", options.order, lower_order_final=options.lower_order_final)
    return multistep(b, grid, scheme)


@dataclass(frozen=True)
class CompatIPNDM(IPNDM):
    """``order``: number of past noise predictions (4 in the peers' code, where the weights do not
    even sum to 1)."""

    order: int = 3


@register(
    "ipndm_v_compat",
    order=lambda o: o.order if o.order < 4 else 2,
    source="zju-pi/diff-sampler, ipndm_v_sampler; ComfyUI's copy of it",
    allow="signal",
    variants=tuple({"order": p} for p in (1, 2)),
)
def ipndm_v_compat(b: PlanBuilder, grid: Grid, options: CompatIPNDM) -> Plan:
    """iPNDM_v as its code has it: orders 3 and 4 carry slips, so their weights are no
    Adams-Bashforth weights of the steps.

    With order 4 the noise of a state is off by the unevenness of the steps (consistency
    ``signal``), which leaves second order.
    """
    x = b.start(grid[0])
    history: list[Expression] = []
    for i, (s, t) in enumerate(grid.pairs()):
        history = [b.evaluate(x, s, "eps"), *history[: options.order - 1]]
        rhos = [t.rho, *(grid[j].rho for j in range(i, i - len(history), -1))]
        x = b.at(t, transfer(x, dot(_slipped([p - q for p, q in pairwise(rhos)]), history), s, t))
    return b.finish(x)


def _slipped(h: list[float]) -> tuple[float, ...]:
    """Weights of the peers for the steps ``h`` (newest first): of
    ``h[0] (e_0 + w_1 d_1 + w_2 d_2 + w_3 d_3)`` with the divided differences d_k scaled by h_1 h_2
    ..., w_1 is right, w_2 has its bracket misplaced and w_3 a sign; d_3 ends on the wrong ratio."""
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

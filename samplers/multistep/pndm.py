"""Pseudo numerical methods: classical weights on eps and exact transfer of the state (Liu et al.
2022, arXiv 2202.09778, eqs. 11-13, Alg. 2).

Transfer from s to t with slope e: ``x_t = alpha_t (x / alpha_s + (rho_t - rho_s) e)``. The weights
are those of uniform grids, so every method with these weights has at most second order where rho is
not uniform, for any number of nodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...checks import choice, flag, integer
from ...plans.builder import Expression, PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..registry import NoOptions, register
from ..singlestep.frames import LabelFrame
from ..singlestep.runge_kutta import rk_step
from ..singlestep.tableau import TABLEAUS, Tableau
from .compat import MisplacedAdams
from .recurrence import StartUp, Step, multistep
from .weight_rules import Interpolation, UniformAdams


def transfer(x: Expression, e: Expression, s: Node, t: Node) -> Expression:
    """Transfer of the state along slope ``e``: ``alpha_t (x / alpha_s + (rho_t - rho_s) e)``."""
    return (t.alpha / s.alpha) * x + (t.alpha * (t.rho - s.rho)) * e


@dataclass(frozen=True)
class IPNDM:
    """Options. ``order``: number of past noise predictions."""

    order: int = 4

    def __post_init__(self) -> None:
        integer("order", self.order, 1, 4)


@dataclass(frozen=True)
class PNDM:
    """Options of PNDM.

    ``variant``: F, three pseudo Runge-Kutta steps and then four noise predictions; or S, one pseudo
    Heun step and then two predictions.
    """

    variant: str = "F"

    def __post_init__(self) -> None:
        choice("variant", self.variant, ("F", "S"))


@dataclass(frozen=True)
class VariableIPNDM(IPNDM):
    """Options. ``order``: number of past noise predictions; ``lower_order_final``: use at most as
    many as there are steps left."""

    lower_order_final: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        flag("lower_order_final", self.lower_order_final)


def _adams(order: int) -> Step:
    """Step with uniform Adams-Bashforth weights on ``order`` noise predictions."""
    return Step(UniformAdams(), order)


def _start_up(grid: Grid, tableau: Tableau, steps: int) -> StartUp:
    """Return a start-up that makes the first ``steps`` steps by pseudo Runge-Kutta, except those
    with a stage at sigma = 0 or at a node without a time."""
    frame = LabelFrame(grid)

    def start_up(
        b: PlanBuilder, i: int, x: Expression, m: Expression, s: Node, t: Node
    ) -> Expression | None:
        if i >= steps or t.sigma == 0.0:
            return None
        inner = [c for c in tableau.c if 0.0 < c < 1.0]
        if inner and not (_timed(s) and _timed(t)):
            return None
        return rk_step(b, x, s, t, tableau, frame, first=m)

    return start_up


def _timed(node: Node) -> bool:
    return node.t is not None and math.isfinite(node.t)


@register(
    "pndm",
    order=2,
    source="Liu et al. 2022, arXiv 2202.09778, Alg. 2 (F-PNDM, S-PNDM)",
    variants=({"variant": "S"},),
)
def pndm(b: PlanBuilder, grid: Grid, options: PNDM) -> Plan:
    """F-PNDM: three pseudo Runge-Kutta steps, then four noise predictions, N + 9 evaluations.
    S-PNDM: N + 1 evaluations."""
    if options.variant == "S":
        return multistep(
            b,
            grid,
            _adams(2),
            lower_order_final=False,
            start_up=_start_up(grid, TABLEAUS["heun"], 1),
        )
    return multistep(
        b, grid, _adams(4), lower_order_final=False, start_up=_start_up(grid, TABLEAUS["rk4"], 3)
    )


@register(
    "plms",
    order=2,
    source="Liu et al. 2022, arXiv 2202.09778, with the start-up of CompVis and diffusers",
)
def plms(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """PLMS: a Heun-like first step, then two, three and four noise predictions; N + 1 evaluations
    (1 for a single step)."""
    return multistep(
        b, grid, _adams(4), lower_order_final=False, start_up=_start_up(grid, TABLEAUS["heun"], 1)
    )


@register(
    "ipndm",
    order=lambda o: min(o.order, 2),
    source="Zhang & Chen 2022, arXiv 2204.13902, sec. 3 (iPNDM)",
    variants=tuple({"order": p} for p in (1, 2, 3)),
)
def ipndm(b: PlanBuilder, grid: Grid, options: IPNDM) -> Plan:
    """Improved PNDM: uniform Adams-Bashforth weights from the first step on; N evaluations."""
    return multistep(b, grid, _adams(options.order), lower_order_final=False)


@register(
    "ipndm_v",
    order=lambda o: o.order,
    source="Zhang & Chen 2022, arXiv 2204.13902, eq. 15 with q = rho; variable-step "
    "Adams-Bashforth",
    variants=tuple({"order": p} for p in (1, 2, 3)),
)
def ipndm_v(b: PlanBuilder, grid: Grid, options: VariableIPNDM) -> Plan:
    """iPNDM with Adams-Bashforth weights of the actual steps; its plans equal those of LMS and DEIS
    rho-AB."""
    step = Step(Interpolation("eps", "rho"), options.order)
    return multistep(b, grid, step, lower_order_final=options.lower_order_final)


@dataclass(frozen=True)
class CompatIPNDM(IPNDM):
    """Options. ``order``: number of past noise predictions (4 in the published code, whose weights
    then do not sum to 1)."""

    order: int = 3


@register(
    "ipndm_v_compat",
    order=lambda o: o.order if o.order < 4 else 2,
    source="zju-pi/diff-sampler, ipndm_v_sampler; ComfyUI's copy of it",
    allow="signal",
    variants=tuple({"order": p} for p in (1, 2)),
)
def ipndm_v_compat(b: PlanBuilder, grid: Grid, options: CompatIPNDM) -> Plan:
    """iPNDM_v as published in code: orders 3 and 4 contain errors and are not the Adams-Bashforth
    weights of the actual steps.

    With order 4 the weights in general do not sum to 1 on uneven steps, so the noise in the states
    is wrong (exactness ``signal``); the method has second order.
    """
    return multistep(b, grid, Step(MisplacedAdams(), options.order), lower_order_final=False)

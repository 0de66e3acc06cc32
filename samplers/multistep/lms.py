"""LMS: Adams-Bashforth in rho on noise predictions, with exact integrals for the actual steps
(Katherine Crowson, k-diffusion)."""

from __future__ import annotations

from dataclasses import dataclass

from ...checks import flag, integer
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...plans.weights.exponential import MAX_POLYNOMIAL
from ...schedules.grids.construction import Grid
from ..registry import register
from .recurrence import Step, multistep
from .weight_rules import Interpolation


@dataclass(frozen=True)
class LMS:
    """Options of LMS.

    ``order``: number of past nodes, 1 to 32. Above 6 the weights grow fast; such orders are only
    useful to reproduce other programs.
    """

    order: int = 4
    lower_order_final: bool = False

    def __post_init__(self) -> None:
        integer("order", self.order, 1, MAX_POLYNOMIAL)
        flag("lower_order_final", self.lower_order_final)


@register(
    "lms",
    order=lambda o: o.order,
    source="Katherine Crowson, k-diffusion; Adams-Bashforth in rho",
    variants=tuple({"order": p} for p in (1, 2, 3)),
)
def lms(b: PlanBuilder, grid: Grid, options: LMS) -> Plan:
    """Linear multistep in rho with exact integrals."""
    step = Step(Interpolation("eps", "rho"), options.order)
    return multistep(b, grid, step, lower_order_final=options.lower_order_final)

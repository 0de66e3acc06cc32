"""MR Sampler: solvers for mean-reverting paths (Li et al. 2025, arXiv 2502.07856, section 4, Algs.
1-4).

For ``xbar = x - mu`` they are the exponential multistep methods of ``multistep`` on the schedule
``MeanReverting``. Written with mu and m = alpha_t (1 - e^{-2h}), the first-order steps are

    ODE, eps    x_t = (alpha_t/alpha_s) x + (1 - alpha_t/alpha_s) mu - sigma_t (e^h - 1) eps
    ODE, x0     x_t = (sigma_t/sigma_s) x + mu (1 - (sigma_t/sigma_s)(1 - alpha_s) - alpha_t) +
                alpha_t (1 - e^{-h}) D
    SDE, x0     x_t = (sigma_t/sigma_s) e^{-h} x + mu (1 - (alpha_t/alpha_s) e^{-2h} - m) + m D +
                sigma_t sqrt(1 - e^{-2h}) z

and the second-order differences do not contain mu. A velocity prediction is converted to the kind
that the solver uses (``models.MeanReverted``).
"""

from __future__ import annotations

from dataclasses import dataclass

from ...checks import choice, flag, integer
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ..multistep.recurrence import Step, multistep
from ..multistep.weight_rules import Interpolation
from ..registry import register


@dataclass(frozen=True)
class MR:
    """Options. ``order``: number of past predictions, 1 or 2; ``kind``: data (x0) or noise (eps)
    form."""

    order: int = 2
    kind: str = "x0"
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        integer("order", self.order, 1, 2)
        choice("kind", self.kind, ("x0", "eps"))
        flag("lower_order_final", self.lower_order_final)

    def multistep(self, b: PlanBuilder, grid: Grid, tau: float) -> Plan:
        """Build the plan with diffusion strength ``tau``."""
        step = Step(Interpolation(self.kind, tau=tau, correction="midpoint"), self.order)
        return multistep(b, grid, step, lower_order_final=self.lower_order_final)


_VARIANTS = ({"order": 1}, {"kind": "eps"}, {"order": 1, "kind": "eps"})


@register(
    "mr_ode",
    order=lambda o: o.order,
    source="Li et al. 2025, arXiv 2502.07856, Algs. 3-4",
    variants=_VARIANTS,
)
def mr_ode(b: PlanBuilder, grid: Grid, options: MR) -> Plan:
    """MR Sampler, ODE: exponential multistep of a mean-reverting path."""
    return options.multistep(b, grid, 0.0)


@register(
    "mr_sde",
    order=lambda o: o.order,
    source="Li et al. 2025, arXiv 2502.07856, Algs. 1-2",
    tau=1.0,
    allow="signal",
    variants=_VARIANTS,
)
def mr_sde(b: PlanBuilder, grid: Grid, options: MR) -> Plan:
    """MR Sampler, SDE: exponential multistep of the reversed mean-reverting SDE."""
    return options.multistep(b, grid, 1.0)

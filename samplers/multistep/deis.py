"""DEIS: exponential integrators on noise predictions (Zhang & Chen 2022, arXiv 2204.13902, eqs.
14-17).

t-AB and rho-AB are multistep methods that interpolate eps in t or rho; rho-RK is Runge-Kutta on
dy/drho = eps. ``order`` counts all nodes (the paper's r counts the additional ones: r = order - 1).
"""

from __future__ import annotations

from dataclasses import dataclass

from ...checks import choice, flag, integer
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ..registry import register
from ..singlestep.frames import RhoFrame
from ..singlestep.runge_kutta import runge_kutta
from ..singlestep.tableau import TABLEAUS
from .recurrence import Step, multistep
from .weight_rules import Interpolation

#: variant -> interpolation variable; ``logrho`` is DEIS in diffusers
VARIABLES = {"tab": "t", "rhoab": "rho", "logrho": "lam"}


@dataclass(frozen=True)
class DEIS:
    """Options of DEIS.

    ``variant``: tab, rhoab or logrho (multistep methods with ``order`` nodes), or rhork
    (Runge-Kutta with the tableau named by ``rk``).
    """

    variant: str = "tab"
    order: int = 3
    rk: str = "kutta3"
    lower_order_final: bool = False

    def __post_init__(self) -> None:
        choice("variant", self.variant, (*VARIABLES, "rhork"))
        integer("order", self.order, 1, 4)
        choice("rk", self.rk, tuple(TABLEAUS))
        flag("lower_order_final", self.lower_order_final)


def _order(options: DEIS) -> int:
    return TABLEAUS[options.rk].order if options.variant == "rhork" else options.order


@register(
    "deis",
    order=_order,
    source="Zhang & Chen 2022, arXiv 2204.13902, eqs. 14-17",
    variants=(
        *(
            {"variant": v, "order": p}
            for v in VARIABLES
            for p in (1, 2, 3, 4)
            if (v, p) != ("tab", 3)
        ),
        *(
            {"variant": "rhork", "rk": name}
            for name in (
                "heun",
                "midpoint",
                "kutta3",
                "ralston3",
                "heun3",
                "houwen3",
                "ssp3",
                "rk4",
            )
        ),
    ),
)
def deis(b: PlanBuilder, grid: Grid, options: DEIS) -> Plan:
    """DEIS: multistep on noise predictions in t or rho with exact integrals, or Runge-Kutta in
    rho."""
    if options.variant == "rhork":
        return runge_kutta(b, grid, TABLEAUS[options.rk], RhoFrame(grid))
    rule = Interpolation("eps", VARIABLES[options.variant], t_of_lam=grid.schedule.t_of_lam)
    step = Step(rule, options.order)
    return multistep(b, grid, step, lower_order_final=options.lower_order_final)

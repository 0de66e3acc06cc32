"""ER-SDE-Solver: multistep on the extended reverse-time SDE, whose diffusion strength depends on
the noise level (arXiv 2309.06169).

The weights are those of ``plans.weights.noise_scale``: the polynomial in rho through the last data
predictions, integrated against the kernel of the noise scale Phi. The authors' third-order formula
uses a one-sided difference for the first derivative and has only second order; the polynomial used
here has third order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...checks import choice, flag, integer, number
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...plans.weights.noise_scale import NOISE_SCALES
from ...schedules.grids.construction import Grid
from ..option_names import option
from ..registry import register
from .compat import OneSidedDerivative
from .recurrence import Rule, Step, multistep
from .weight_rules import ExtendedSDE


@dataclass(frozen=True)
class ERSDE:
    """Options of ER-SDE-Solver.

    ``order``: number of past data predictions, 1 to 3. ``s_noise``: factor on the noise.
    ``diffusion``: the noise scale Phi(rho),

        ode      rho
        sde      rho^2
        sde_1    rho (e^{-1/rho} + 10)
        sde_2    rho^1.5
        sde_3    rho^2.5
        sde_4    rho^0.9 log10(1 + 100 rho^1.5)
        sde_5    rho (e^{rho^0.3} + 10), the authors' default
    """

    order: int = 3
    diffusion: str = option("sde_5", was=("noise_scale",))
    s_noise: float = 1.0
    lower_order_final: bool = False

    def __post_init__(self) -> None:
        integer("order", self.order, 1, 3)
        choice("diffusion", self.diffusion, tuple(NOISE_SCALES))
        number("s_noise", self.s_noise, 0.0, 10.0)
        flag("lower_order_final", self.lower_order_final)

    def multistep(self, b: PlanBuilder, grid: Grid, *, one_sided: bool = False) -> Plan:
        """Build the plan. ``one_sided``: weight three predictions as the authors' code does."""
        rule: Rule = ExtendedSDE(NOISE_SCALES[self.diffusion])
        rule = OneSidedDerivative(rule) if one_sided else rule
        step = Step(rule, self.order, s_noise=self.s_noise)
        return multistep(b, grid, step, lower_order_final=self.lower_order_final)

    def tau_at(self, rho: float) -> float:
        """Diffusion strength at noise-to-signal ratio ``rho``,
        ``tau^2 = d log Phi / d log rho - 1``."""
        return math.sqrt(float(NOISE_SCALES[self.diffusion].excess(np.float64(rho))))

    def decay(self, lam: Any, end: float) -> Any:
        """Integral ``int (1 + tau^2) dlam`` from half log-SNRs ``lam`` to ``end``.
        ``eval.certificates`` uses it in place of tau, because the strength is not constant."""
        log_g = NOISE_SCALES[self.diffusion].log_g
        return (
            end
            - lam
            + log_g(np.exp(-np.asarray(lam, dtype=np.float64)))
            - log_g(np.exp(-np.float64(end)))
        )


@register(
    "er_sde",
    order=lambda o: o.order if o.diffusion == "ode" else min(o.order, 2),
    source="Cui et al. 2023, arXiv 2309.06169, Alg. 1-3",
    tau=lambda o: o.tau_at(1.0),
    allow="signal",
    variants=(
        *({"diffusion": name} for name in ("ode", "sde", "sde_1", "sde_4")),
        {"order": 2, "diffusion": "ode"},
        {"order": 1},
    ),
)
def er_sde(b: PlanBuilder, grid: Grid, options: ERSDE) -> Plan:
    """ER-SDE-Solver: data predictions interpolated in rho; weak order 2 with noise, third order
    without."""
    return options.multistep(b, grid)


@register(
    "er_sde_compat",
    order=lambda o: min(o.order, 2),
    source="Cui et al. 2023, arXiv 2309.06169, the authors' code and ComfyUI",
    tau=lambda o: o.tau_at(1.0),
    allow="signal",
    variants=({"diffusion": "ode"}, {"diffusion": "sde"}),
)
def er_sde_compat(b: PlanBuilder, grid: Grid, options: ERSDE) -> Plan:
    """ER-SDE-Solver with the authors' third-order formula (actual order 2); integrals are exact
    where the authors sum over 100 points."""
    return options.multistep(b, grid, one_sided=True)

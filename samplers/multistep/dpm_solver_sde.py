"""SDE-DPM-Solver and SDE-DPM-Solver++ multistep: presets of ``multistep`` with noise (Lu et al.
2022, arXiv 2211.01095, app. B).

The noise has standard deviation ``sigma_t sqrt(1 - e^{-2 tau^2 h})`` in the data form and
``tau sigma_t sqrt(e^{2h} - 1)`` in the noise form. The latter grows without bound with the step:
states have the correct signal, but their total noise is correct only as h -> 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...checks import flag, number
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ..option_names import option
from ..registry import register
from .compat import HalvedDifference
from .dpm_solver import DPMMultistep
from .recurrence import Rule, Step, multistep
from .weight_rules import Interpolation


def tau_of_eta(eta: float) -> float:
    """Convert k-diffusion's eta to tau = ``sqrt(eta)``."""
    return math.sqrt(number("eta", eta, 0.0, 10.0))


@dataclass(frozen=True)
class DPMMultistepSDE(DPMMultistep):
    """Options of ``DPMMultistep``, and ``tau``: diffusion strength (k-diffusion's eta is its
    square); ``s_noise``: factor on the noise."""

    tau: float = option(1.0, also={"eta": tau_of_eta})
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("tau", self.tau, 0.0, 4.0)
        number("s_noise", self.s_noise, 0.0, 10.0)


@dataclass(frozen=True)
class DPMMultistep3SDE:
    """Options of SDE-DPM-Solver++ 3M.

    ``tau``, ``s_noise``: as for ``dpmpp_2m_sde``. Steps with two predictions use exact weights.
    """

    tau: float = option(1.0, also={"eta": tau_of_eta})
    s_noise: float = 1.0
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        number("tau", self.tau, 0.0, 4.0)
        number("s_noise", self.s_noise, 0.0, 10.0)
        flag("lower_order_final", self.lower_order_final)

    def multistep(self, b: PlanBuilder, grid: Grid, *, halved: bool = False) -> Plan:
        """Build the plan with three past predictions. ``halved``: compute their second difference
        as other toolkits do."""
        rule: Rule = Interpolation(tau=self.tau)
        step = Step(HalvedDifference(rule) if halved else rule, 3, s_noise=self.s_noise)
        return multistep(b, grid, step, lower_order_final=self.lower_order_final)


@dataclass(frozen=True)
class NoiseFormSDE1:
    """Options. ``tau``: diffusion strength, 1 for the reversed forward SDE; ``s_noise``: factor on
    the noise."""

    tau: float = 1.0
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        number("tau", self.tau, 0.0, 3.0)
        number("s_noise", self.s_noise, 0.0, 10.0)


@dataclass(frozen=True)
class NoiseFormSDE2(DPMMultistep):
    """Options. ``tau``: diffusion strength, 1 for the reversed forward SDE; ``s_noise``: factor on
    the noise."""

    tau: float = 1.0
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        NoiseFormSDE1(self.tau, self.s_noise)


@register(
    "dpmpp_2m_sde",
    order=2,
    source="Lu et al. 2022, arXiv 2211.01095, app. B",
    tau=lambda o: o.tau,
    allow="signal",
    variants=({"correction": "exact"}, {"eta": 0.5}),
)
def dpmpp_2m_sde(b: PlanBuilder, grid: Grid, options: DPMMultistepSDE) -> Plan:
    """SDE-DPM-Solver++ 2M: the reverse SDE with two data predictions."""
    rule = Interpolation(tau=options.tau, correction=options.correction)
    step = Step(rule, 2, s_noise=options.s_noise)
    return multistep(b, grid, step, lower_order_final=options.lower_order_final)


@register(
    "dpmpp_3m_sde",
    order=lambda o: 2 if o.tau else 3,
    source="Lu et al. 2022, arXiv 2211.01095, app. B and D with the full second difference",
    tau=lambda o: o.tau,
    allow="signal",
    variants=({"eta": 0.5}, {"eta": 0.0}),
)
def dpmpp_3m_sde(b: PlanBuilder, grid: Grid, options: DPMMultistep3SDE) -> Plan:
    """SDE-DPM-Solver++ 3M: the exact quadratic through three data predictions; weak order 2, or
    third order at tau = 0."""
    return options.multistep(b, grid)


@register(
    "dpmpp_3m_sde_compat",
    order=2,
    source="k-diffusion, sample_dpmpp_3m_sde",
    tau=lambda o: o.tau,
    allow="signal",
    variants=({"eta": 0.5}, {"eta": 0.0}),
)
def dpmpp_3m_sde_compat(b: PlanBuilder, grid: Grid, options: DPMMultistep3SDE) -> Plan:
    """SDE-DPM-Solver++ 3M as in k-diffusion: half of the second difference."""
    return options.multistep(b, grid, halved=True)


@register(
    "sde_dpm_solver_1",
    order=1,
    source="Lu et al. 2022, arXiv 2211.01095, app. B, noise form",
    tau=lambda o: o.tau,
    allow="signal",
    variants=({"tau": 0.5},),
)
def sde_dpm_solver_1(b: PlanBuilder, grid: Grid, options: NoiseFormSDE1) -> Plan:
    """SDE-DPM-Solver-1: the reverse SDE with one noise prediction. Its noise grows as e^h, so it
    needs short steps."""
    rule = Interpolation("eps", tau=options.tau)
    return multistep(b, grid, Step(rule, 1, s_noise=options.s_noise))


@register(
    "sde_dpm_solver_2m",
    order=2,
    source="Lu et al. 2022, arXiv 2211.01095, app. B, noise form",
    tau=lambda o: o.tau,
    allow="signal",
    variants=({"correction": "exact"}, {"tau": 0.5}),
)
def sde_dpm_solver_2m(b: PlanBuilder, grid: Grid, options: NoiseFormSDE2) -> Plan:
    """SDE-DPM-Solver 2M: the reverse SDE with two noise predictions. Its noise grows as e^h, so it
    needs short steps."""
    rule = Interpolation("eps", tau=options.tau, correction=options.correction)
    step = Step(rule, 2, s_noise=options.s_noise)
    return multistep(b, grid, step, lower_order_final=options.lower_order_final)

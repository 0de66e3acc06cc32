"""DPM-Solver and DPM-Solver++ multistep: exponential steps in lam on past noise or data predictions
(Lu et al. 2022, arXiv 2206.00927 and arXiv 2211.01095)."""

from __future__ import annotations

from dataclasses import dataclass

from ...checks import choice, flag
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ..option_names import CORRECTIONS, option
from ..registry import register
from .compat import HalvedDifference
from .recurrence import Rule, Step, multistep
from .weight_rules import Interpolation


@dataclass(frozen=True)
class DPMMultistep:
    """Options of DPM-Solver multistep.

    ``correction``: weights of a step with two predictions, ``midpoint`` (the default in all
    toolkits) or ``exact`` (called taylor, and heun in k-diffusion and diffusers).
    ``lower_order_final``: use fewer predictions in the last steps.
    """

    correction: str = option("midpoint", also=("solver_type",), words=CORRECTIONS)
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        choice("correction", self.correction, ("midpoint", "exact"))
        flag("lower_order_final", self.lower_order_final)

    def multistep(
        self, b: PlanBuilder, grid: Grid, order: int, kind: str = "x0", *, halved: bool = False
    ) -> Plan:
        """Build the plan with ``order`` past predictions of ``kind``. ``halved``: compute the
        second difference of three predictions as other toolkits do."""
        rule: Rule = Interpolation(kind, correction=self.correction)
        rule = HalvedDifference(rule) if halved else rule
        return multistep(b, grid, Step(rule, order), lower_order_final=self.lower_order_final)


@dataclass(frozen=True)
class NoiseForm3(DPMMultistep):
    """Options of ``DPMMultistep`` and ``third``: the second difference, ``exact`` or ``halved`` (as
    in diffusers; second order)."""

    third: str = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("third", self.third, ("exact", "halved"))


_EXACT = ({"correction": "exact"},)


@register("dpmpp_2m", order=2, source="Lu et al. 2022, arXiv 2211.01095, Alg. 2", variants=_EXACT)
def dpmpp_2m(b: PlanBuilder, grid: Grid, options: DPMMultistep) -> Plan:
    """DPM-Solver++ 2M: two data predictions, one evaluation per step."""
    return options.multistep(b, grid, 2)


@register(
    "dpmpp_3m",
    order=3,
    source="Lu et al. 2022, arXiv 2211.01095, app. D with the full second difference",
)
def dpmpp_3m(b: PlanBuilder, grid: Grid, options: DPMMultistep) -> Plan:
    """DPM-Solver++ 3M of true third order (the exact quadratic through three data predictions)."""
    return options.multistep(b, grid, 3)


@register("dpmpp_3m_compat", order=2, source="DPM-Solver reference code and its descendants")
def dpmpp_3m_compat(b: PlanBuilder, grid: Grid, options: DPMMultistep) -> Plan:
    """DPM-Solver++ 3M as in diffusers and k-diffusion: half of the second difference, hence second
    order."""
    return options.multistep(b, grid, 3, halved=True)


@register(
    "dpm_solver_2m",
    order=2,
    source="Lu et al. 2022, arXiv 2206.00927, multistep form",
    variants=_EXACT,
)
def dpm_solver_2m(b: PlanBuilder, grid: Grid, options: DPMMultistep) -> Plan:
    """DPM-Solver 2M: two noise predictions."""
    return options.multistep(b, grid, 2, "eps")


@register(
    "dpm_solver_3m",
    order=lambda o: 3 if o.third == "exact" else 2,
    source="Lu et al. 2022, arXiv 2206.00927, multistep form with the full second difference",
    variants=({"third": "halved"},),
)
def dpm_solver_3m(b: PlanBuilder, grid: Grid, options: NoiseForm3) -> Plan:
    """DPM-Solver 3M: three noise predictions; third order, or second with ``third="halved"``."""
    return options.multistep(b, grid, 3, "eps", halved=options.third == "halved")

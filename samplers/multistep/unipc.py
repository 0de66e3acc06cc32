"""UniPC: predictor and corrector of any order for one evaluation a step, and UniP, its predictor
alone (Zhao et al. 2023, arXiv 2302.04867).

With p nodes the solved coefficients of the paper are those of exact interpolation in lam, whatever
the function B(h); B1 and B2 (bh1, bh2) differ only where two nodes are used and the paper sets the
coefficient to 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...checks import ArgumentError, choice, flag, integer
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import MAX_STEPS, Grid
from ..registry import register
from .compat import OneRowCorrector
from .recurrence import Rule, Step, multistep
from .weight_rules import Interpolation

_UNIPC_MOMENTS = {"bh1": "bh1", "bh2": "half", "vary_coeff": None, "vary_coeff_compat": None}


@dataclass(frozen=True)
class UniPC:
    """``order`` 1-4 past nodes; ``variant``: bh1, bh2 (they differ only where two nodes meet),
    vary_coeff (exact there too) or vary_coeff_compat (its corrector as public code has it, see
    ``one_row``); ``corrector`` on or off; ``kind`` x0 or eps; ``skip_corrector``: steps from 0
    without it."""

    order: int = 2
    variant: str = "bh2"
    corrector: bool = True
    kind: str = "x0"
    lower_order_final: bool = True
    skip_corrector: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        integer("order", self.order, 1, 4)
        choice("variant", self.variant, tuple(_UNIPC_MOMENTS))
        choice("kind", self.kind, ("x0", "eps"))
        flag("corrector", self.corrector)
        flag("lower_order_final", self.lower_order_final)
        object.__setattr__(
            self,
            "skip_corrector",
            tuple(integer("skip_corrector", k, 0, MAX_STEPS) for k in self.skip_corrector),
        )
        if self.skip_corrector and not self.corrector:
            raise ArgumentError(
                f"skip_corrector={self.skip_corrector!r} with corrector=False: there is no "
                "corrector to skip"
            )


@dataclass(frozen=True)
class UniP:
    """``order``: past nodes; ``variant``: bh1, bh2 (they differ for two nodes) or vary_coeff (exact
    there too); ``kind``: x0 or eps."""

    order: int = 2
    variant: str = "bh2"
    kind: str = "x0"
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        integer("order", self.order, 1, 6)
        choice("variant", self.variant, ("bh1", "bh2", "vary_coeff"))
        choice("kind", self.kind, ("x0", "eps"))
        flag("lower_order_final", self.lower_order_final)


def _unipc_order(o: UniPC) -> int:
    if not o.corrector:
        return o.order
    return 1 if o.variant == "vary_coeff_compat" and o.order > 1 else o.order + 1


@register(
    "unipc",
    order=_unipc_order,
    source="Zhao et al. 2023, arXiv 2302.04867, Alg. 1-2",
    variants=(
        {"variant": "bh1"},
        *({"variant": v, "order": p} for v in ("vary_coeff", "vary_coeff_compat") for p in (2, 3)),
        *({"order": p} for p in (1, 3, 4)),
        *({"order": p, "corrector": False} for p in (1, 2, 3, 4)),
        *({"order": p, "kind": "eps"} for p in (1, 2, 3)),
    ),
)
def unipc(b: PlanBuilder, grid: Grid, options: UniPC) -> Plan:
    """UniPC: predictor and corrector of any order for one evaluation a step."""
    # a list for longer runs may name later steps too
    if options.skip_corrector and min(options.skip_corrector) >= grid.steps:
        raise ArgumentError(
            f"skip_corrector={options.skip_corrector!r}: no step of these, counted from 0, "
            f"is among {grid.steps}"
        )
    kind, order = options.kind, options.order
    compat = options.variant == "vary_coeff_compat"
    rule: Rule = Interpolation(kind, moment=_UNIPC_MOMENTS[options.variant])
    step = Step(OneRowCorrector(kind) if compat else rule, order)
    corrected = replace(step, corrector=order + 1 if options.corrector else 0)
    steps = [step if i in options.skip_corrector else corrected for i in range(grid.steps)]
    return multistep(b, grid, steps, lower_order_final=options.lower_order_final)


@register(
    "unip",
    order=lambda o: o.order,
    source="Zhao et al. 2023, arXiv 2302.04867, Alg. 2",
    variants=(
        {"variant": "bh1"},
        {"variant": "vary_coeff"},
        *({"order": p} for p in (1, 3, 4)),
        {"kind": "eps"},
    ),
)
def unip(b: PlanBuilder, grid: Grid, options: UniP) -> Plan:
    """UniP, the predictor of UniPC alone: DPM-Solver++ 2M for two nodes (bh2), exact interpolation
    for more."""
    rule = Interpolation(options.kind, moment=_UNIPC_MOMENTS[options.variant])
    step = Step(rule, options.order)
    return multistep(b, grid, step, lower_order_final=options.lower_order_final)

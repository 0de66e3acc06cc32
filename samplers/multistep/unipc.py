"""UniPC: predictor and corrector of any order with one evaluation per step, and UniP, its predictor
alone (Zhao et al. 2023, arXiv 2302.04867).

With p nodes the paper's solved coefficients are those of exact interpolation in lam for any
function B(h). B1 and B2 (bh1, bh2) differ only where two nodes are used and the paper sets the
coefficient to 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...checks import ArgumentError, choice, flag, integer
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import MAX_STEPS, Grid
from ..option_names import CORRECTIONS, option
from ..registry import register
from .compat import OneRowCorrector
from .recurrence import Filter, Rule, Step, multistep
from .weight_rules import Interpolation


@dataclass(frozen=True)
class UniP:
    """Options of UniP.

    ``order``: number of past predictions, 1 to 6. ``correction``: weights of a step with two
    predictions, ``midpoint`` (bh2), ``bh1`` or ``exact`` (vary_coeff). ``kind``: x0 or eps.
    """

    order: int = 2
    correction: str = option("midpoint", also=("variant", "solver_type"), words=CORRECTIONS)
    kind: str = "x0"
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        integer("order", self.order, 1, 6)
        choice("correction", self.correction, ("midpoint", "bh1", "exact"))
        choice("kind", self.kind, ("x0", "eps"))
        flag("lower_order_final", self.lower_order_final)


@dataclass(frozen=True)
class UniPC:
    """Options of UniPC.

    ``order``: number of past predictions, 1 to 4. ``correction``: as for UniP, or ``exact_compat``
    (vary_coeff_compat): exact predictor with the corrector as published in code
    (``compat.OneRowCorrector``). ``corrector``: on or off. ``kind``: x0 or eps. ``skip_corrector``:
    numbers of the steps, from 0, that use no corrector.
    """

    order: int = 2
    correction: str = option(
        "midpoint",
        also=("variant", "solver_type"),
        words={**CORRECTIONS, "vary_coeff_compat": "exact_compat"},
    )
    corrector: bool = True
    kind: str = "x0"
    lower_order_final: bool = True
    skip_corrector: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        integer("order", self.order, 1, 4)
        choice("correction", self.correction, ("midpoint", "bh1", "exact", "exact_compat"))
        choice("kind", self.kind, ("x0", "eps"))
        flag("corrector", self.corrector)
        flag("lower_order_final", self.lower_order_final)
        skipped = tuple(integer("skip_corrector", k, 0, MAX_STEPS) for k in self.skip_corrector)
        object.__setattr__(self, "skip_corrector", skipped)
        if self.skip_corrector and not self.corrector:
            raise ArgumentError(
                f"skip_corrector={self.skip_corrector!r} with corrector=False: there is no "
                "corrector to skip"
            )


def unipc_order(o: UniPC) -> int:
    """The declared order of UniPC: one more with a corrector."""
    if not o.corrector:
        return o.order
    return 1 if o.correction == "exact_compat" and o.order > 1 else o.order + 1


@register(
    "unipc",
    order=unipc_order,
    source="Zhao et al. 2023, arXiv 2302.04867, Alg. 1-2",
    variants=(
        {"correction": "bh1"},
        *({"correction": c, "order": p} for c in ("exact", "exact_compat") for p in (2, 3)),
        *({"order": p} for p in (1, 3, 4)),
        *({"order": p, "corrector": False} for p in (1, 2, 3, 4)),
        *({"order": p, "kind": "eps"} for p in (1, 2, 3)),
    ),
)
def unipc(b: PlanBuilder, grid: Grid, options: UniPC) -> Plan:
    """UniPC: predictor and corrector of any order with one evaluation per step."""
    return predict_and_correct(b, grid, options)


def predict_and_correct(
    b: PlanBuilder, grid: Grid, options: UniPC, stored: Filter | None = None, memory: int = 1
) -> Plan:
    """The plan of ``unipc``; ``stored`` and ``memory`` as in ``multistep``."""
    # the list may be written for longer runs: steps beyond the end are ignored
    if options.skip_corrector and min(options.skip_corrector) >= grid.steps:
        raise ArgumentError(
            f"skip_corrector={options.skip_corrector!r}: none of these steps, numbered "
            f"from 0, is in a run of {grid.steps} steps"
        )
    kind, order = options.kind, options.order
    rule: Rule = (
        OneRowCorrector(kind)
        if options.correction == "exact_compat"
        else Interpolation(kind, correction=options.correction)
    )
    step = Step(rule, order)
    corrected = replace(step, corrector=order + 1 if options.corrector else 0)
    steps = [step if i in options.skip_corrector else corrected for i in range(grid.steps)]
    return multistep(
        b,
        grid,
        steps,
        lower_order_final=options.lower_order_final,
        stored=stored,
        memory=memory,
    )


@register(
    "unip",
    order=lambda o: o.order,
    source="Zhao et al. 2023, arXiv 2302.04867, Alg. 2",
    variants=(
        {"correction": "bh1"},
        {"correction": "exact"},
        *({"order": p} for p in (1, 3, 4)),
        {"kind": "eps"},
    ),
)
def unip(b: PlanBuilder, grid: Grid, options: UniP) -> Plan:
    """UniP, the predictor of UniPC alone: DPM-Solver++ 2M for two nodes (bh2), exact interpolation
    for more."""
    rule = Interpolation(options.kind, correction=options.correction)
    step = Step(rule, options.order)
    return multistep(b, grid, step, lower_order_final=options.lower_order_final)

"""DC-Solver: UniPC whose stored predictions are compensated for having been made at the predicted
state (Zhao et al. 2024, arXiv 2409.03755).

Before step i, whose ratio is r_i, the newest stored prediction gives way to the value of the
parabola in t through the last three, at a shifted time:

    t~ = r_i t_i + (1 - r_i) t_{i-1},    m_i <- sum_j l_j(t~) m_{i-j},    j = 0, 1, 2

The weights l_j have the sum 1 and depend on the grid and the ratio alone, so the sampler is a plan.
Ratios of 1 change nothing. ``engine.tuning.compensation`` finds ratios for a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from ...checks import ArgumentError, number
from ...plans.builder import Expression, PlanBuilder, dot
from ...plans.plan import Plan
from ...plans.transforms.skipped_calls import lagrange
from ...plans.weights.node_distances import time
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..registry import register
from .unipc import UniPC, predict_and_correct, unipc_order

#: predictions before the newest that the parabola goes through
BEFORE = 2


@dataclass(frozen=True)
class DCSolver(UniPC):
    """Options of DC-Solver: those of UniPC, and ``ratios``, one for each step of the run, -10 to
    10; the first two are 1. Without them all are 1, which is UniPC."""

    ratios: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        given = tuple(float(number("ratios", r, -10.0, 10.0)) for r in self.ratios)
        object.__setattr__(self, "ratios", given)

    @property
    def plain(self) -> UniPC:
        """The options without the ratios."""
        return UniPC(**{f.name: getattr(self, f.name) for f in fields(UniPC)})

    def of_steps(self, steps: int, missing: int) -> tuple[float, ...]:
        """The ratio of each step of a run of ``steps``. ArgumentError for another number of
        ratios, and for one in the first ``missing`` steps, which have too few predictions."""
        if not self.ratios:
            return (1.0,) * steps
        if len(self.ratios) != steps:
            raise ArgumentError(
                f"ratios={self.ratios!r}: {len(self.ratios)} entries for {steps} steps"
            )
        for i, ratio in enumerate(self.ratios[:missing]):
            if ratio != 1.0:
                raise ArgumentError(
                    f"ratios={self.ratios!r}: entry {i} must be 1, as step {i} has fewer than "
                    f"{BEFORE} predictions before it"
                )
        return self.ratios


@register(
    "dc_solver",
    order=lambda o: 1 if any(r != 1.0 for r in o.ratios) else unipc_order(o),
    source="Zhao et al. 2024, arXiv 2409.03755",
    variants=({"order": 3}, {"kind": "eps"}),
    follows=lambda o: ("unipc", o.plain),
)
def dc_solver(b: PlanBuilder, grid: Grid, options: DCSolver) -> Plan:
    """DC-Solver: UniPC with predictions compensated by searched ratios, one for each step."""
    before = len(b.nodes) - len(grid)  # 1 if the step from alpha = 0 is already made
    ratios = options.of_steps(grid.steps + before, BEFORE + before)
    shifted = {s: r for (s, _), r in zip(grid.pairs(), ratios[before:], strict=True) if r != 1.0}
    if not shifted:
        return predict_and_correct(b, grid, options)

    def stored(
        b: PlanBuilder, past: Sequence[tuple[Node, Expression]], s: Node, m: Expression
    ) -> Expression:
        if s not in shifted:
            return m
        (first, _), *_ = used = past[:BEFORE]
        at = shifted[s] * time(s) + (1.0 - shifted[s]) * time(first)
        weights = lagrange([time(s), *(time(node) for node, _ in used)], at)
        return b.value(dot(weights, [m, *(value for _, value in used)]))

    return predict_and_correct(b, grid, options, stored, BEFORE)

"""DPM-Solver-v3 with statistics l, s and b for each coordinate (Zheng et al. 2023, arXiv
2310.13268, Alg. 1 and eqs. 5-11; ``multistep.dpm_solver_v3`` has the method for one number).

The coefficients of a step are tensors of the shape of a sample, and b adds a constant, which a plan
of numbers cannot hold: hence a driver. The coefficients are known before the run: they are computed
in float64 on the host, 2 + order tensors of the size of a sample for each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from ...checks import ArgumentError
from ...plans.builder import PlanBuilder
from ...plans.weights.phi import Array
from ...plans.weights.statistics import Curves, Update, constant, update
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..multistep.dpm_solver_v3 import How, V3Options
from ..registry import register
from .driver import Drive, Driven, fragment


@dataclass(frozen=True)
class V3Elementwise(Driven, V3Options):
    """Options: those of ``dpm_solver_v3``, with statistics for each coordinate or for all, the
    constant ``b`` in their place, and ``max_nfe``."""

    b: float = 0.0

    def __post_init__(self) -> None:
        Driven.__post_init__(self)
        V3Options.__post_init__(self)

    @property
    def _constants(self) -> tuple[str, ...]:
        return ("l", "s", "b")


class _Past(NamedTuple):
    """A node, the state there, and ``N = sigma eps - l x``."""

    node: Node
    x: Tensor
    n: Tensor


@dataclass
class _Run:
    """A run with its coefficients as tensors like ``drive.x``, in float32 or better."""

    drive: Drive
    curves: Curves
    how: How

    def __post_init__(self) -> None:
        self.dtype = torch.promote_types(self.drive.x.dtype, torch.float32)

    def placed(self, values: Array) -> Tensor:
        """``values`` on the device."""
        return torch.as_tensor(values).to(self.dtype).to(self.drive.x.device)

    def seen(self, node: Node) -> tuple[_Past, Sequence[Tensor]]:
        """Evaluate the network at the accepted state."""
        x = self.drive.x
        outputs = self.drive.evaluate(x, node)
        own = self.placed(1.0 - self.curves.l.at([node.lam])[0])
        wide = x.to(self.dtype)
        n = own * wide - node.alpha * outputs["x0"].to(self.dtype)
        return _Past(node, wide, n), outputs.raws

    def moved(self, past: Sequence[_Past], t: Node, pseudo: bool) -> Tensor:
        """The state at ``t`` from the state of the first of ``past``."""
        first = past[0]
        made: Update = update(self.curves, first.node, t, [p.node for p in past], pseudo)
        x = self.placed(made.carry) * first.x + self.placed(made.constant)
        for value, p in zip(made.values, past, strict=True):
            x = x + self.placed(value) * p.n
        return x

    def along(self, grid: Grid) -> None:
        """Make the steps of ``grid`` (Alg. 1). An edit of the state is added to the corrected state
        as well."""
        drive, history = self.drive, list[_Past]()
        edit: Tensor | None = None
        counts = [(0, 0), *self.how.counts(grid.steps)]
        for i, (s, t) in enumerate(grid.pairs()):
            now, raws = self.seen(s)
            if c := counts[i][1]:
                x = self.moved([history[0], now, *history[1 : c - 1]], s, self.c_pseudo)
                now = now._replace(x=x if edit is None else x + edit)
            history = [now, *history[: self.how.order]]
            y = self.moved(history[: counts[i + 1][0]], t, self.how.p_pseudo)
            made = y.to(drive.x.dtype)
            edit = None
            if drive.accept(made, t, raws):
                edit = drive.x.to(self.dtype) - made.to(self.dtype)

    @property
    def c_pseudo(self) -> bool:
        return self.how.corrector == "pseudo"


def _curves(options: V3Elementwise, shape: tuple[int, ...]) -> Curves:
    """The functions l, s and b. ArgumentError if they are for another shape."""
    found = options.found
    if found is None:
        b = constant(options.b) if options.b else None
        return Curves(constant(options.l), constant(options.s), b)
    if found.shape not in ((), shape):
        raise ArgumentError(
            f"statistics for samples of shape {found.shape}, and the state has {shape}"
        )
    return found.curves


def _as_plan(options: V3Elementwise) -> tuple[str, V3Options]:
    """The same with one number for all coordinates."""
    own = {f.name: getattr(options, f.name) for f in fields(V3Options)}
    return "dpm_solver_v3", V3Options(**own)


@register(
    "dpm_solver_v3_elementwise",
    order=lambda o: o.how(10**6).declared,
    source="Zheng et al. 2023, arXiv 2310.13268, Alg. 1",
    form="driver",
    follows=_as_plan,
    variants=(
        {"corrector": "equal", "l": 0.5, "s": -0.3, "b": 0.1},
        {"corrector": "pseudo", "p_pseudo": True, "l": 0.5, "s": -0.3},
    ),
)
def dpm_solver_v3_elementwise(drive: Drive, grid: Grid, options: V3Elementwise) -> Tensor:
    """DPM-Solver-v3 with the statistics l, s and b of each coordinate."""
    steps = grid.steps
    if grid[0].alpha == 0.0:
        b = PlanBuilder(grid.nodes[:2], "exact")
        ran = drive.run(fragment(b, b.prologue(grid[0], grid[1])))
        drive.accept(ran.x, grid[1], ran.first)
        if steps == 1:
            return drive.x
        grid = grid.tail(1)
    curves = _curves(options, tuple(drive.x.shape[1:]))
    _Run(drive, curves, options.how(steps)).along(grid)
    return drive.x

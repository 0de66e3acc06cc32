"""SADA: a plan that skips the network where its trajectory is stable (Jiang et al. 2025, arXiv
2507.17135), around any deterministic sampler of one call a step.

Let ``y_i = dx/dt`` be the probability flow at the i-th node, made of the state and the last network
output (eps), and ``h_i = t_i - t_{i+1}``. After the ordinary step to ``x_{i+1}``,

    x'_{i+1} = x_i - h_i (5/8 y_i + 3/4 y_{i-1} - 3/8 y_{i-2})       (extrapolated state)
    kappa_i  = (x_{i+1} - x'_{i+1}) * (y_i - 2 y_{i-1} + y_{i-2})    (elementwise)

and the network is skipped at step i+1 where the mean of kappa over a sample is at most 0. There the
data prediction is made from the extrapolated state and the last eps,
``D_{i+1} = (x'_{i+1} - sigma eps) / alpha``. In the late phase the network is called after every
step i with i mod L = 0 only; between them D is the Lagrange interpolant, in the number of the step,
of the K last predictions kept (those of steps i with i mod L = 1). Skips begin in the active range
only, and after ``most`` skips in a row the network is called.

The weights 5/8, 3/4, -3/8 are the published ones; they sum to 1 and are consistent of first order
only. On nodes that are not equidistant the second difference is the divided one, times twice the
square of the mean spacing, which is the published one where they are. kappa below its own rounding
counts as 0. The published code decides for the whole batch by the mean over it
(``decide="batch"``); by default every sample decides for itself, the network gets the rows that
need it, and the bits of a sample do not depend on its batch. The pruning of tokens inside a
transformer is not part of this. The host reads which samples skip, once a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...checks import choice, integer, number
from ...checks.option_values import pairs
from ...plans.instructions import MAIN
from ...plans.running.halves import halved_sum
from ...plans.running.loop import Cursor, Outputs
from ...plans.running.lowering import Call, lower
from ...plans.transforms.skipped_calls import lagrange
from ...schedules.grids.construction import Grid
from ...schedules.kinds import parts
from ...schedules.node import Node
from ..registry import SamplerError, build, get, make_options, register
from .driver import Drive, Driven

#: weights of y_i, y_{i-1}, y_{i-2} in the extrapolated state
WEIGHTS = (0.625, 0.75, -0.375)
#: the first step that may decide to skip
FIRST = 3


@dataclass(frozen=True)
class SADA(Driven):
    """Options of ``sada``.

    ``method``: the sampler whose plan is run, with ``arguments`` as its options. ``first``,
    ``late``, ``last``: fractions of the steps where skipping begins, the late phase begins, and
    skipping ends; the published 10, 24 and 47 of 50. ``most``: skips in a row; ``interval``: L;
    ``anchors``: K, 0 for no late phase. ``decide``: ``sample``, or ``batch``, one decision by the
    mean over the batch.
    """

    method: str = "dpmpp_2m"
    arguments: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    first: float = 0.2
    late: float = 0.48
    last: float = 0.94
    most: int = 4
    interval: int = 4
    anchors: int = 4
    decide: str = "sample"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("first", "late", "last"):
            number(name, getattr(self, name), 0.0, 1.0)
        integer("most", self.most, 0, 1000)
        integer("interval", self.interval, 2, 1000)
        integer("anchors", self.anchors, 0, 8)
        choice("decide", self.decide, ("sample", "batch"))
        sampler = get(self.method)
        object.__setattr__(self, "arguments", pairs("arguments", self.arguments))
        if (
            sampler.form != "plan"
            or sampler.channels != (MAIN,)
            or sampler.tau_of(self.inner()) > 0.0
        ):
            raise SamplerError(
                f"method={self.method!r}: must be a sampler of form plan that draws no noise and "
                "reads one prediction"
            )

    def inner(self) -> Any:
        """The options of the plan."""
        return make_options(get(self.method), dict(self.arguments))

    def range_of(self, steps: int) -> tuple[int, int, int]:
        """The steps where skipping begins, the late phase begins (a multiple of L; ``steps``
        without one), and skipping ends."""
        late = self.interval * round(self.late * steps / self.interval) if self.anchors else steps
        return max(round(self.first * steps), FIRST), late, round(self.last * steps)


class Decided(Outputs):
    """The outputs that ``on_step`` sees: predictions of the step, made or extrapolated; ``kappa``
    (B, *shape), None before there are three y; ``skipped`` (B,): the network was not called for
    these samples; ``skips`` (B,): it will not be at the next step."""

    kappa: Tensor | None = None
    skipped: Tensor
    skips: Tensor


class _DataKind:
    """The numbers of a denoiser that predicts x0: the plan is run on predictions of this kind."""

    prediction = "x0"
    channels = (MAIN,)

    def __init__(self, own: Any) -> None:
        self.schedule, self.shape = own.schedule, own.shape

    def input_scale(self, t: float) -> float:
        return 1.0

    def coefficients(self, t: float, channel: str = MAIN) -> tuple[float, tuple[float, ...]]:
        return 0.0, (1.0,)


class _Skipping:
    """The run. ``skip`` (B,): samples whose next network call is not made; ``row`` (B,): how many
    skips in a row; ``slopes``: the last y with their times, newest first; ``kept``: predictions of
    the late phase by step."""

    def __init__(self, drive: Drive, cursor: Cursor, options: SADA) -> None:
        self.drive, self.cursor, self.options = drive, cursor, options
        self.calls = cursor.program.calls
        self.start, self.late, self.stop = options.range_of(len(self.calls))
        batch, device = len(drive.x), drive.x.device
        self.skip = torch.zeros(batch, dtype=torch.bool, device=device)
        self.row = torch.zeros(batch, dtype=torch.int64, device=device)
        self.precision = torch.promote_types(drive.x.dtype, torch.float32)
        self.eps = self.guess = torch.zeros((), device=device)
        self.slopes: list[tuple[float, Tensor]] = []
        self.kept: list[tuple[int, Tensor]] = []
        self.interpolated = False

    def run(self) -> Tensor:
        """Run the plan to its end."""
        drive, cursor = self.drive, self.cursor
        for i, call in enumerate(self.calls):
            x, skipped = cursor.x.clone(), self.skip
            D = self._prediction(i, call, x)
            if self.options.anchors and i % self.options.interval == 1:
                self.kept = [*self.kept, (i, D)][-self.options.anchors :]
            self._add_slope(call.node, x)
            cursor.step((D.to(x.dtype),))
            after = cursor.node
            seen = Decided(self.cursor.denoiser, call.node, x, (D.to(x.dtype),))
            seen.skipped, seen.kappa = skipped, self._decide(i, x, cursor.x, after)
            seen.skips = self.skip
            if drive.accept(cursor.x.clone(), after, outputs=seen):
                cursor.replace(drive.x)
        return cursor.result

    def _prediction(self, i: int, call: Call, x: Tensor) -> Tensor:
        """The data prediction at step i, (B, *shape): of the network where it is called."""
        drive, node = self.drive, call.node
        rows = (~self.skip).nonzero().flatten()  # the host reads here
        if len(rows) == 0:
            return self._guessed(i, node)
        scale = drive.denoiser.input_scale(float(node.t or 0.0))
        due = Call(drive.nfe, node, 0, 0, scale)
        x_in = x if scale == 1.0 else x * scale
        whole = len(rows) == len(x)
        raws = drive.call(x_in, due) if whole else drive.call_some(x_in, due, rows)
        made = Outputs(drive.denoiser, node, x.to(self.precision), raws)
        D, eps = made["x0"], made["eps"]
        if whole:
            self.eps = eps
            return D
        self.eps = torch.where(_column(self.skip, x), self.eps, eps)
        return torch.where(_column(self.skip, x), self._guessed(i, node), D)

    def _guessed(self, i: int, node: Node) -> Tensor:
        """The prediction of samples that skip step i."""
        if not self.interpolated:
            return (self.guess - node.sigma * self.eps) / node.alpha
        weights = lagrange([float(k) for k, _ in self.kept], float(i))
        total = weights[0] * self.kept[0][1]
        for w, (_, D) in zip(weights[1:], self.kept[1:], strict=True):
            total = total + w * D
        return total

    def _add_slope(self, node: Node, x: Tensor) -> None:
        """Keep y at this step; where the path has none, the next decisions are calls."""
        if node.t is None or None in (node.dalpha, node.dsigma) or node.alpha == 0.0:
            self.slopes = []
            return
        u, w = parts("velocity", node)
        data = (x.to(self.precision) - node.sigma * self.eps) / node.alpha
        self.slopes = [(node.t, u * data + w * self.eps), *self.slopes][:3]

    def _decide(self, i: int, x: Tensor, after: Tensor, node: Node) -> Tensor | None:
        """Decide which samples skip step i + 1; returns kappa."""
        self.interpolated = False
        never = torch.zeros_like(self.skip)
        if len(self.slopes) < 3 or node.t is None or i + 1 >= len(self.calls):
            self.skip, self.row = never, torch.zeros_like(self.row)
            return None
        (t0, y0), (t1, y1), (t2, y2) = self.slopes
        a, b, c = WEIGHTS
        self.guess = x.to(self.precision) - (t0 - node.t) * (a * y0 + b * y1 + c * y2)
        p, q, r = second_difference(t0, t1, t2)
        bend = p * y0 + q * y1 + r * y2
        apart = after.to(self.precision) - self.guess
        kappa = apart * bend
        if self.start <= i < min(self.late, self.stop):
            size = abs(p) * y0.abs() + abs(q) * y1.abs() + abs(r) * y2.abs()
            rounding = apart.abs() * size + after.to(self.precision).abs() * bend.abs()
            wants = self._stable(kappa, rounding)
        else:
            self.interpolated = (
                self.late <= i < self.stop and i % self.options.interval != 0 and bool(self.kept)
            )
            wants = torch.full_like(self.skip, self.interpolated)
        self.skip = wants & (self.row < self.options.most)
        self.row = torch.where(self.skip, self.row + 1, 0)
        return kappa

    def _stable(self, kappa: Tensor, rounding: Tensor) -> Tensor:
        """Whether the mean of ``kappa`` is at most 0, up to rounding, (B,)."""
        both = torch.stack([kappa, rounding]).to(_widest(kappa.device))
        means = halved_sum(both.reshape(2, len(kappa), -1))
        if self.options.decide == "batch":
            means = means.sum(1, keepdim=True).expand(2, len(kappa))
        return means[0] <= 8.0 * torch.finfo(self.precision).eps * means[1]


def second_difference(t0: float, t1: float, t2: float) -> tuple[float, float, float]:
    """Weights of the second difference of values at three times: twice the divided difference times
    the square of the mean spacing; (1, -2, 1) where they are equidistant."""
    scale = 0.5 * (t0 - t2) ** 2
    return (
        scale / ((t0 - t1) * (t0 - t2)),
        scale / ((t1 - t0) * (t1 - t2)),
        scale / ((t2 - t0) * (t2 - t1)),
    )


def _column(rows: Tensor, like: Tensor) -> Tensor:
    return rows.reshape(-1, *(1,) * (like.ndim - 1))


def _widest(device: torch.device) -> torch.dtype:
    """float64, or float32 on devices without it."""
    return torch.float32 if device.type == "mps" else torch.float64


@register(
    "sada",
    order=1,
    source="Jiang et al. 2025, arXiv 2507.17135",
    form="driver",
    follows=lambda o: (o.method, o.inner()),
    variants=({"method": "ddim"}, {"decide": "batch"}, {"anchors": 0, "first": 0.0, "last": 1.0}),
)
def sada(drive: Drive, grid: Grid, options: SADA) -> Tensor:
    """Stability-guided skipping of network calls around any deterministic plan of one call a
    step."""
    plan = build(options.method, grid, options.inner())
    if tuple(e.node for e in plan.evaluations) != grid.nodes[: plan.nfe] or plan.nfe != plan.steps:
        raise SamplerError(
            f"method={options.method!r} makes {plan.nfe} network calls in {plan.steps} steps; must "
            "be a sampler of one call a step, at its start"
        )
    own: Any = _DataKind(drive.denoiser)
    return _Skipping(drive, Cursor(lower(plan, own), own, drive.x), options).run()

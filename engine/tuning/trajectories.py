"""The trajectories that plans are fitted to and judged by: start states and converged ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import ArgumentError
from ...models.base import BaseDenoiser
from ...models.denoiser import Condition, convert_prediction
from ...models.precision import InOwnPrecision
from ...plans.plan import Plan
from ...plans.running.loop import NumericalError, StepState
from ...schedules.grids.construction import Grid, grid
from ...schedules.node import Node
from ..planning import plan as make_plan
from ..sampling import run
from ..start_states import start_state
from .losses import sample_errors

#: numbers in a batch of states of one network call
_NUMBERS = 1 << 18
#: sampler of the converged ends
FINE, FINE_ORDER = "unipc", 3
#: levels of the limit at sigma = 0, as multiples of the last
_SPREAD = (1.0, 1.5, 2.2)
#: nodes nearer than this in half log-SNR are one
_SAME = 1e-6
#: condition of the trajectories: rows for all of them, or made from their seeds
Conditions = Condition | Callable[[Sequence[int]], Condition]


class TuneError(ArgumentError):
    """A plan cannot be tuned with these arguments, or for this model."""


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Start states (B, *shape), float64, their conditions, and their converged ends; ``error``:
    median RMS change of an end where half as many steps are made, if it was measured."""

    seeds: range
    x: Tensor
    cond: Condition
    end: Tensor
    error: float = math.nan

    def part(self, rows: slice) -> Trajectories:
        """The trajectories ``rows``."""
        cond = rows_of(self.cond, torch.arange(len(self.x))[rows])
        return Trajectories(self.seeds[rows], self.x[rows], cond, self.end[rows], self.error)


def rows_of(cond: Condition, rows: Tensor) -> Condition:
    """The conditions of the samples ``rows``."""
    if isinstance(cond, Mapping):
        return {name: value[rows.to(value.device)] for name, value in cond.items()}
    return None if cond is None else cond[rows.to(cond.device)]


class Model:
    """A denoiser that is called on float64 states, in batches of bounded size."""

    def __init__(self, denoiser: BaseDenoiser) -> None:
        self.denoiser = InOwnPrecision(denoiser)
        self.dtype = self.denoiser.dtype
        self.rows_called = 0

    @property
    def share(self) -> float:
        """Step of a difference by the state, as a share of the state, at which the error of the
        difference and that of the network's rounding are about equal."""
        return {torch.float64: 1e-6, torch.float32: 1e-3}.get(self.dtype, 1e-2)

    @property
    def exact(self) -> bool:
        """Whether it computes in float64."""
        return self.dtype == torch.float64

    def batches(self, x: Tensor) -> list[slice]:
        """The rows of ``x`` in batches."""
        size = max(1, _NUMBERS // max(1, x[0].numel()))
        return [slice(k, k + size) for k in range(0, len(x), size)]

    def run(
        self,
        plan: Plan,
        x: Tensor,
        cond: Condition,
        watch: Callable[[slice, StepState], None] | None = None,
    ) -> Tensor:
        """The end states of ``plan``; ``watch`` sees every step. NumericalError for NaN."""
        self.rows_called += plan.nfe * len(x)
        parts = []
        for rows in self.batches(x):
            seen = None if watch is None else _bound(watch, rows)
            own = rows_of(cond, torch.arange(len(x))[rows])
            with torch.no_grad():
                parts.append(run(plan, self.denoiser, x[rows], cond=own, on_step=seen))
        return torch.cat(parts)

    def x0(self, x: Tensor, node: Node, cond: Condition, repeats: int = 1) -> Tensor:
        """The prediction of x0 at the states ``x`` (repeats B, *shape), whose conditions are
        ``cond`` (B), over and over."""
        self.rows_called += len(x)
        t, schedule = float(node.t or 0.0), self.denoiser.schedule
        index = torch.arange(len(x)) % (len(x) // repeats)
        parts = []
        for rows in self.batches(x):
            with torch.no_grad():
                value = self.denoiser(x[rows], t, rows_of(cond, index[rows]))
            kind = self.denoiser.prediction
            parts.append(convert_prediction(value, x[rows], t, kind, "x0", schedule))
        return torch.cat(parts)


def _bound(
    watch: Callable[[slice, StepState], None], rows: slice
) -> Callable[[StepState], Tensor | None]:
    def seen(step: StepState) -> Tensor | None:
        watch(rows, step)
        return None

    return seen


def trajectories(
    model: Model,
    seeds: range,
    conditions: Conditions,
    first: Node,
    steps: int,
    measured: bool = False,
) -> Trajectories:
    """Converged probability-flow ends from the start states of ``seeds`` at ``first``: UniPC-3 in
    ``steps`` steps on the grid ``lam``, then ``_end``. ``measured``: half as many steps are run
    too, and the error is the median change of an end.

    TuneError where the model's ends are no numbers.
    """
    denoiser = model.denoiser
    cond = conditions(seeds) if callable(conditions) else conditions
    x = start_state(denoiser, first, seeds, device=denoiser.device, dtype=torch.float64)
    ends = []
    for count in (max(steps // 2, 2), steps) if measured else (steps,):
        fine = make_plan(FINE, denoiser.schedule, steps=count, grid="lam", order=FINE_ORDER)
        try:
            ends.append(_end(model, fine, x, cond))
        except NumericalError as error:
            raise TuneError(f"the model's converged trajectories are no numbers: {error}") from None
    apart = float(sample_errors(ends[0], ends[-1]).median()) if measured else math.nan
    return Trajectories(seeds, x, cond, ends[-1], apart)


def _end(model: Model, fine: Plan, x: Tensor, cond: Condition) -> Tensor:
    """The end of a fine plan. At sigma = 0 it is the limit of the prediction of x0, which is smooth
    in rho^2 = (sigma / alpha)^2 along a trajectory: the value at 0 of the parabola through three
    of the last calls. A last step from the last level alone would err by its ``rho^2``, much where
    a table of times ends early."""
    rhos = [call.node.rho for call in fine.evaluations]
    places = sorted({_nearest(rhos, factor * rhos[-1]) for factor in _SPREAD})
    if fine.end.sigma > 0.0 or len(places) < len(_SPREAD):
        return model.run(fine, x, cond)
    squares = [rhos[k] ** 2 for k in places]
    weights = {
        k: math.prod(r / (r - own) for r in squares if r != own)
        for k, own in zip(places, squares, strict=True)
    }
    limit = torch.zeros_like(x)

    def watch(rows: slice, step: StepState) -> None:
        if step.index in weights:
            limit[rows] += weights[step.index] * step.outputs["x0"]

    model.run(fine, x, cond, watch)
    return fine.end.alpha * limit


def _nearest(values: Sequence[float], wanted: float) -> int:
    return min(range(len(values)), key=lambda k: abs(math.log(values[k] / wanted)))


def states_at(model: Model, given: Trajectories, nodes: Sequence[Node], steps: int) -> list[Tensor]:
    """The states of the converged trajectories at ``nodes``, inner nodes of a grid."""
    schedule = model.denoiser.schedule
    fine = grid("lam", schedule, steps)
    wanted = [float(node.t or 0.0) for node in nodes]
    lams = [node.lam for node in nodes]
    near = [
        t
        for t, node in zip(fine.times, fine.nodes, strict=True)
        if all(abs(node.lam - lam) > _SAME for lam in lams)
    ]
    times = sorted({*near, *wanted}, reverse=True)
    whole = Grid.from_times(schedule, times, "custom", (), "zero", "")
    plan = make_plan(FINE, schedule, grid=whole, order=FINE_ORDER)
    found = [torch.full_like(given.x, math.nan) for _ in nodes]

    def watch(rows: slice, step: StepState) -> None:
        if step.next_node is not None and step.next_node.t in wanted:
            found[wanted.index(step.next_node.t)][rows] = step.x_next

    model.run(plan, given.x, given.cond, watch)
    return found

"""Editing of data on flows without inversion.

With data x0, noises eps shared by both sides, and the velocities u of two conditions, along a grid
of times t from noise to data,

    x_t = (1 - t) x0 + t eps,    y_t = x_t + z - x0,    z = x0 at first

    FlowEdit    z <- z + (t' - t) (v - u(x_t, t | source)),    v = u(y_t, t | target)
    FlowAlign   z <- z + (t' - t) (v - u(x_t, t | source)) + c (D_x - D_y),
                v = u(y_t, t | source) + w (u(y_t, t | target) - u(y_t, t | source)),
                D_x = x_t - t u(x_t, t | source),    D_y = y_t - t v

averaged over ``draws`` noises. FlowEdit is Alg. 1 of Kulikov et al. 2024, arXiv 2412.08629.
FlowAlign is by Kim et al. 2025, arXiv 2505.23145, with the step of the authors' code: the
difference of the data predictions D keeps the result near x0, with the same factor in every step,
whatever its length. With w = 1 and c = 0 it is FlowEdit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import ArgumentError, integer, number
from ..fused.noise.seeded import GUIDANCE_STREAM, SeededNoise, check_seeds, seeds_from
from ..models.base import BaseDenoiser, RunFacts
from ..models.denoiser import Denoiser, convert_prediction
from ..models.wrapper import complete
from ..schedules.flow import Flow
from ..schedules.grids.construction import Grid, grid
from .arguments import StateError, check_cond, check_given, check_state

Cond = Tensor | Mapping[str, Tensor] | None


def flow_edit(
    denoiser: Denoiser,
    x0: Tensor,
    source: Cond,
    target: Cond,
    *,
    target_model: Denoiser | None = None,
    steps: int = 28,
    start: float = 1.0,
    draws: int = 1,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    times: Sequence[float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return ``x0`` (B, *shape) changed from the condition ``source`` to the condition ``target``.

    Args:
        denoiser: the model for ``source``, on a ``Flow`` schedule.
        target_model: the model for ``target``, on the same schedule; default ``denoiser``. A
            guided model with another scale, for instance ``guidance.CFG``.
        source, target: conditions, batch first.
        steps, times: the grid, uniform in t before the schedule's shift, or the times themselves.
        start: the time from which it is made, up to 1: a smaller one changes less.
        draws: noises averaged in a step; each makes two network calls.
        seed, seeds: sample i has seed ``seed + i``, or ``seeds``, one per sample.
        progress: called with the number of network calls made, and of all.

    Raises ArgumentError for a model that is not on a flow; StateError for data and conditions that
    do not fit.
    """
    model = complete(denoiser)
    other = model if target_model is None else complete(target_model)
    if not isinstance(model.schedule, Flow) or model.schedule != other.schedule:
        raise ArgumentError(
            f"flow_edit needs models on one Flow schedule, not {model.schedule!r} and "
            f"{other.schedule!r}"
        )
    ends = _End(model, source), _End(other, target)
    path = _path(model, steps, start, times)
    run = _Run.of(ends, x0, path, draws, seed, seeds, progress)

    def change(x: Tensor, y: Tensor, now: float, then: float) -> Tensor:
        return (then - now) * (run.velocity(1, y, now) - run.velocity(0, x, now))

    return run.edited(x0, change, 2)


def flow_align(
    denoiser: Denoiser,
    x0: Tensor,
    source: Cond,
    target: Cond,
    *,
    scale: float = 13.5,
    align: float = 0.01,
    steps: int = 33,
    start: float = 1.0,
    draws: int = 1,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    times: Sequence[float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return ``x0`` (B, *shape) changed from the condition ``source`` to the condition ``target``,
    and kept near ``x0``.

    Args:
        denoiser: the model, on a ``Flow`` schedule; not a guided one, ``scale`` guides.
        source, target, steps, start, seed, seeds, times, progress: as in ``flow_edit``.
        scale: w, guidance from ``source`` to ``target``; 1 leaves the third call of a step out.
        align: c, the factor of the term that keeps the result near ``x0``, 0 to 1.
        draws: noises averaged in a step; each makes three network calls.

    Raises ArgumentError for a model that is not on a flow, and numbers out of range; StateError for
    data and conditions that do not fit.
    """
    model = complete(denoiser)
    if not isinstance(model.schedule, Flow):
        raise ArgumentError(f"flow_align needs a model on a Flow schedule, not {model.schedule!r}")
    w, c = number("scale", scale), number("align", align, 0.0, 1.0)
    ends = _End(model, source), _End(model, target)
    path = _path(model, steps, start, times)
    run = _Run.of(ends, x0, path, draws, seed, seeds, progress)

    def change(x: Tensor, y: Tensor, now: float, then: float) -> Tensor:
        v = run.velocity(1, y, now)
        if w != 1.0:
            plain = run.velocity(0, y, now)
            v = plain + w * (v - plain)
        u = run.velocity(0, x, now)
        return (then - now) * (v - u) + c * ((x - now * u) - (y - now * v))

    return run.edited(x0, change, 2 if w == 1.0 else 3)


def _path(model: BaseDenoiser, steps: int, start: float, times: Sequence[float] | None) -> Grid:
    """The times from noise to data."""
    if times is None:
        return grid("uniform", model.schedule, steps, start=start)
    return grid(None, model.schedule, times=times)


class _End(NamedTuple):
    """One side of an edit."""

    model: BaseDenoiser
    cond: Cond


#: (x_t, y_t, t, t') -> what is added to z
Change = Callable[[Tensor, Tensor, float, float], Tensor]


@dataclass
class _Run:
    """One edit: both sides, the times, and the noises."""

    ends: tuple[_End, _End]
    path: Grid
    draws: int
    seeds: tuple[int, ...]
    progress: Callable[[int, int], None] | None
    calls: int = 0
    total: int = 0

    @classmethod
    def of(
        cls,
        ends: tuple[_End, _End],
        x0: Tensor,
        path: Grid,
        draws: int,
        seed: int,
        seeds: Sequence[int] | None,
        progress: Callable[[int, int], None] | None,
    ) -> _Run:
        """The edit of ``x0``, checked."""
        check_given(x0=x0)
        for model, cond in ends:
            check_state(x0, model)
            check_cond(cond, x0.shape[0])
            model.check_cond(cond, x0.shape[0])
        draws = integer("draws", draws, 1, 10_000)
        chosen = seeds_from(seed, len(x0)) if seeds is None else check_seeds(seeds)
        if len(chosen) != len(x0):
            raise StateError(f"{len(chosen)} seeds were given for {len(x0)} samples")
        own = [_End(model.for_run(RunFacts(chosen, None)), cond) for model, cond in ends]
        return cls((own[0], own[1]), path, draws, chosen, progress)

    def velocity(self, side: int, x: Tensor, t: float) -> Tensor:
        """The velocity of a side at ``x``, one network call."""
        model, cond = self.ends[side]
        value = model(x, t, cond)
        self.calls += 1
        if self.progress is not None:
            self.progress(self.calls, self.total)
        return convert_prediction(value, x, t, model.prediction, "velocity", model.schedule)

    def edited(self, x0: Tensor, change: Change, calls: int) -> Tensor:
        """``x0`` after all steps of ``change``, which makes ``calls`` network calls."""
        noise, z = SeededNoise(self.seeds, GUIDANCE_STREAM), x0.clone()
        self.total = calls * self.draws * self.path.steps
        with torch.no_grad():
            for i, (s, t) in enumerate(self.path.pairs()):
                now, then = float(s.t or 0.0), float(t.t or 0.0)
                sums = torch.zeros_like(z)
                for k in range(self.draws):
                    x = s.alpha * x0 + s.sigma * noise(i * self.draws + k, x0)
                    sums += change(x, x + (z - x0), now, then)
                z = z + sums / self.draws
        return z

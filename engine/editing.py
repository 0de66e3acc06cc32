"""Editing of data on flows without inversion: FlowEdit (Kulikov et al. 2024, arXiv 2412.08629,
Alg. 1).

With data x0, noises eps shared by both sides, and the velocities u of two conditions,

    x_t = (1 - t) x0 + t eps,    y_t = z + x_t - x0,
    z <- z + (t' - t) (u(y_t, t | target) - u(x_t, t | source)),    z = x0 at first,

along a grid from noise to data; the difference is averaged over ``draws`` noises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..checks import ArgumentError, integer
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
    check_given(x0=x0)
    check_state(x0, model)
    check_state(x0, other)
    for own, cond in ((model, source), (other, target)):
        check_cond(cond, x0.shape[0])
        own.check_cond(cond, x0.shape[0])
    draws = integer("draws", draws, 1, 10_000)
    chosen = seeds_from(seed, len(x0)) if seeds is None else check_seeds(seeds)
    if len(chosen) != len(x0):
        raise StateError(f"{len(chosen)} seeds were given for {len(x0)} samples")
    if times is None:
        path = grid("uniform", model.schedule, steps, start=start)
    else:
        path = grid(None, model.schedule, times=times)
    models = [m.for_run(RunFacts(chosen, None)) for m in (model, other)]
    with torch.no_grad():
        return _edited(models, x0, (source, target), path, draws, chosen, progress)


def _edited(
    models: Sequence[BaseDenoiser],
    x0: Tensor,
    conds: tuple[Cond, Cond],
    path: Grid,
    draws: int,
    seeds: Sequence[int],
    progress: Callable[[int, int], None] | None,
) -> Tensor:
    noise, z = SeededNoise(tuple(seeds), GUIDANCE_STREAM), x0.clone()
    total, made = 2 * draws * path.steps, 0
    for i, (s, t) in enumerate(path.pairs()):
        now, then = float(s.t or 0.0), float(t.t or 0.0)
        change = torch.zeros_like(z)
        for k in range(draws):
            x = s.alpha * x0 + s.sigma * noise(i * draws + k, x0)
            change += _velocity(models[1], z + x - x0, now, conds[1])
            change -= _velocity(models[0], x, now, conds[0])
            made += 2
            if progress is not None:
                progress(made, total)
        z = z + ((then - now) / draws) * change
    return z


def _velocity(model: BaseDenoiser, x: Tensor, t: float, cond: Cond) -> Tensor:
    value = model(x, t, cond)
    return convert_prediction(value, x, t, model.prediction, "velocity", model.schedule)

"""``fewstep.sample`` and ``fewstep.run``: the front door.

The state at the first node is ``prior_scale z`` (z the start noise of each sample's seed), or ``alpha init + sigma z`` when an image to
begin from is given, or ``x`` as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from torch import Tensor

from ..fused.noise import SeededNoise, check_seeds, seeds_from
from ..models.denoiser import Denoiser
from ..plans import loop
from ..plans.instructions import Plan
from ..plans.loop import Noise, NumericalError, OnStep, StepState
from ..plans.lowering import Program
from ..schedules.grids import Grid
from .planning import plan as make_plan

Cond = Tensor | Mapping[str, Tensor] | None


class StateError(ValueError):
    """A state, seed or condition that does not fit the model or the batch."""


@dataclass(frozen=True)
class SampleInfo:
    """What a run was.

    Attributes:
        nfe: network calls made.
        plan: the plan that ran.
        seeds: one a sample, empty when the state was given.
        seconds: wall time of the run, building aside.
        time_mismatch: the largest distance between a state's time and the label that a table look-up network saw, 0 for others.
    """

    nfe: int
    plan: Plan
    seeds: tuple[int, ...]
    seconds: float
    time_mismatch: float


def run(
    plan: Plan | Program,
    denoiser: Denoiser,
    x: Tensor,
    *,
    noise: Noise = None,
    seeds: Sequence[int] | None = None,
    cond: Cond = None,
    on_step: OnStep | None = None,
    check: bool = True,
) -> Tensor:
    """Run ``plan`` from ``x`` (B, *shape), the state at the plan's first node, already scaled.

    A stochastic plan takes its noises from ``noise`` (a callable ``(key, like)``, or tensors by key) or from ``seeds``, one a sample.
    ``on_step`` sees each step and may replace the next state. Raises NumericalError on NaN, StateError on a wrong shape.
    """
    _check_state(x, denoiser)
    _check_cond(cond, x.shape[0])
    if noise is None and seeds is not None:
        noise = SeededNoise(check_seeds(seeds))
    try:
        return loop.run(plan, denoiser, x, noise=noise, cond=cond, on_step=on_step, check=check)
    except NumericalError as error:
        if seeds is not None:
            error.args = (f"{error.args[0]}, seeds {[seeds[i] for i in error.samples]}",)
        raise


@overload
def sample(denoiser: Denoiser, sampler: str = ..., *, info: Literal[False] = ..., **arguments: Any) -> Tensor: ...
@overload
def sample(denoiser: Denoiser, sampler: str = ..., *, info: Literal[True], **arguments: Any) -> tuple[Tensor, SampleInfo]: ...
def sample(
    denoiser: Denoiser,
    sampler: str = "dpmpp_2m",
    *,
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Grid = "auto",
    times: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    final: str = "zero",
    n: int | None = None,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    x: Tensor | None = None,
    init: Tensor | None = None,
    start: float | None = None,
    shape: Sequence[int] | None = None,
    cond: Cond = None,
    noise: Noise | Literal["independent"] = "independent",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    callback: OnStep | None = None,
    progress: bool | Callable[[int, int], None] = False,
    info: bool = False,
    **options: Any,
) -> Tensor | tuple[Tensor, SampleInfo]:
    """Draw samples.

    Args:
        denoiser: the model.
        sampler, steps, nfe, grid, times, sigmas, final, options: see ``fewstep.plan``.
        n, seed: sample i has seed ``seed + i``; or ``seeds``, one a sample. The same seed gives the same noise in any batch.
        x: the state at the grid's first time, already scaled, instead of noise.
        init, start: begin at time ``start`` from ``init`` (clean data) noised to that time.
        shape: of one sample, where the model does not know it.
        cond: Tensor or mapping of tensors, batch first.
        noise: of a stochastic sampler: ``"independent"`` (from the seeds), a callable ``(key, like)`` or tensors by key.
        callback: sees each ``StepState``; may return a tensor that replaces the next state.
        progress: True prints to stderr, or a callable ``(done, total)``.
        info: also return a ``SampleInfo``.

    Returns the tensor (n, *shape), with ``info=True`` and the SampleInfo.
    """
    compiled = make_plan(
        sampler, denoiser.schedule, steps=steps, nfe=nfe, grid=grid, times=times, sigmas=sigmas, final=final, start=start, **options
    )
    if start is not None and x is None and init is None:
        raise StateError(f"start={start}: give init= (clean data) or x= (the state at that time) to begin in the middle")
    chosen = _seeds(n, seed, seeds, x if x is not None else init)
    state = _start(denoiser, compiled, chosen, x, init, shape, device, dtype)
    source: Noise = SeededNoise(chosen) if isinstance(noise, str) else noise
    if isinstance(noise, str) and noise != "independent":
        raise ValueError(f"noise={noise!r}: 'independent', a callable or tensors by key are wanted")
    began = time.perf_counter()
    out = run(compiled, denoiser, state, noise=source, seeds=chosen, cond=cond, on_step=_watcher(callback, progress, compiled.nfe))
    if not info:
        return out
    mismatch = getattr(denoiser, "time_mismatch", None)
    worst = max((abs(mismatch(e.node.t)) for e in compiled.evaluations), default=0.0) if callable(mismatch) else 0.0
    return out, SampleInfo(compiled.nfe, compiled, chosen, time.perf_counter() - began, worst)


def _seeds(n: int | None, seed: int, seeds: Sequence[int] | None, given: Tensor | None) -> tuple[int, ...]:
    count = given.shape[0] if given is not None else n
    chosen = check_seeds(seeds) if seeds is not None else seeds_from(seed, 1 if count is None else count)
    for what, wanted in (("n", n), ("the batch of the given state", given.shape[0] if given is not None else None)):
        if wanted is not None and wanted != len(chosen):
            raise StateError(f"{len(chosen)} seeds, but {what} is {wanted}")
    return chosen


def _start(
    denoiser: Denoiser,
    plan: Plan,
    seeds: tuple[int, ...],
    x: Tensor | None,
    init: Tensor | None,
    shape: Sequence[int] | None,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> Tensor:
    if x is not None:
        if init is not None:
            raise StateError("x= and init= were both given: give one of them")
        return x.to(device=device or x.device, dtype=dtype or x.dtype)
    if init is not None:
        init = init.to(device=device or init.device, dtype=dtype or init.dtype)
        z = SeededNoise(seeds).start(tuple(init.shape[1:]), init.device, init.dtype)
        return plan.start.alpha * init + plan.start.sigma * z
    return start_state(denoiser, plan, seeds, shape=shape, device=device, dtype=dtype)


def start_state(
    denoiser: Denoiser,
    plan: Plan,
    seeds: Sequence[int],
    *,
    shape: Sequence[int] | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """``prior_scale z`` (n, *shape) at the plan's first node, z the start noise of each seed; StateError where no shape is known."""
    size = shape if shape is not None else denoiser.shape
    if size is None:
        raise StateError("the model does not know the shape of a sample: give shape=")
    where = device if device is not None else getattr(denoiser, "device", None)
    z = SeededNoise(check_seeds(seeds)).start(tuple(size), where, dtype or torch.float32)
    return prior_scale(denoiser, plan) * z


def prior_scale(denoiser: Denoiser, plan: Plan) -> float:
    """Standard deviation of the start state: the schedule's at t_max; in proportion to sigma where a grid begins later."""
    schedule = denoiser.schedule
    if plan.start.t == schedule.t_max or schedule.prior_scale == 1.0:
        return schedule.prior_scale
    return schedule.prior_scale * plan.start.sigma / float(schedule.sigma(schedule.t_max))


def _check_state(x: Tensor, denoiser: Denoiser) -> None:
    if not x.is_floating_point():
        raise StateError(f"the state must be floating point, got {x.dtype}")
    if x.ndim < 2:
        raise StateError(f"the state must be (batch, *shape), got {tuple(x.shape)}")
    if denoiser.shape is not None and tuple(x.shape[1:]) != tuple(denoiser.shape):
        raise StateError(f"the state has shape {tuple(x.shape)}, the model wants (batch, {', '.join(map(str, denoiser.shape))})")


def _check_cond(cond: Cond, batch: int) -> None:
    items = cond.items() if isinstance(cond, Mapping) else [] if cond is None else [("cond", cond)]
    for name, value in items:
        if value.ndim == 0 or value.shape[0] != batch:
            raise StateError(f"condition {name!r} has shape {tuple(value.shape)}, the batch is {batch}")


def _watcher(callback: OnStep | None, progress: bool | Callable[[int, int], None], total: int) -> OnStep | None:
    if not progress:
        return callback
    report = progress if callable(progress) else _print_progress

    def watch(step: StepState) -> Tensor | None:
        report(step.nfe, total)
        return callback(step) if callback is not None else None

    return watch


def _print_progress(done: int, total: int) -> None:
    import sys

    print(f"\r{done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

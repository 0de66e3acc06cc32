"""alpha and sigma at the network's times, on the device of the sample, without waiting for it.

Times are validated: by an ArgumentError where their values are known on the host, otherwise (on a
device, or in a graph) by an asynchronous assertion, which on CUDA ends the run with a device-side
assertion.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentError
from ...schedules import DiscreteVP, Flow
from ...schedules.noise_path import NoisePath
from .config import Settings
from .program import Compiled

FLOAT32 = torch.finfo(torch.float32).eps


def levels(
    settings: Settings, run: Compiled | None, timesteps: Any, like: Tensor
) -> tuple[Tensor, Tensor]:
    """``(alpha, sigma)`` at ``timesteps``, shaped to multiply ``like``. Times of the run that is
    set up have exactly its values.

    ``timesteps`` holds one time, or one a sample. ArgumentError for another number of them, for
    integers where times are no table's indices, and for times outside of ``bounds`` that are none
    of the run's.
    """
    wide = torch.float32 if like.device.type == "mps" else torch.float64
    given = _as_times(settings, timesteps, like)
    low, high = bounds(settings)
    rounding = (
        0.5 * max(torch.finfo(given.dtype).eps, FLOAT32) if given.is_floating_point() else 0.0
    )
    slack = rounding * max(1.0, abs(low), abs(high))  # an end that was rounded is that end
    host = given.device.type == "cpu" and not torch.compiler.is_compiling()
    if host:
        _check(given.tolist(), low - slack, high + slack, _rounded(run, given), settings)
    t = given.to(like.device, wide, non_blocking=True)
    inside = (t >= low - slack) & (t <= high + slack)
    now = t.clamp(low, high) / settings.scale
    alpha, sigma = settings.schedule.alpha(now), settings.schedule.sigma(now)
    if run is not None:
        table = run.at(like.device, wide)
        same = t[:, None] == table[0].to(_kept(given)).to(wide)
        where, found = same.to(torch.uint8).argmax(1), same.any(1)
        alpha, sigma = (
            torch.where(found, row[where], value)
            for row, value in ((table[1], alpha), (table[2], sigma))
        )
        inside = inside | found
    if not host and given.device.type != "meta":
        torch._assert_async(
            inside.all(),
            f"timesteps outside of {low:.6g} to {high:.6g}, the times of this scheduler",
        )
    shape = (-1, *(1,) * (like.ndim - 1))
    dtype = like.dtype if like.is_floating_point() else torch.float32
    return alpha.to(dtype).reshape(shape), sigma.to(dtype).reshape(shape)


def bounds(settings: Settings) -> tuple[float, float]:
    """The least and the largest time that the network is told: entries of the table, or the path's
    own; for EDM log(sigma) / 4 between sigma_min and sigma_max."""
    schedule = settings.schedule
    if isinstance(schedule, NoisePath):
        low, high = settings.levels
        return 0.25 * math.log(low), 0.25 * math.log(high)
    return 0.0, schedule.t_max * settings.scale


def _as_times(settings: Settings, timesteps: Any, like: Tensor) -> Tensor:
    """The times as a flat tensor on their own device. ArgumentError for what is no list of times
    for ``like``."""
    given = timesteps
    if not isinstance(given, Tensor):
        try:
            given = torch.as_tensor(timesteps)
        except (TypeError, ValueError, RuntimeError):
            raise ArgumentError(
                f"timesteps={timesteps!r} must be a number, or a list or tensor of numbers"
            ) from None
    if given.dtype == torch.bool or given.is_complex():
        raise ArgumentError(f"timesteps of dtype {given.dtype} must be real numbers")
    if isinstance(settings.schedule, NoisePath) and not given.is_floating_point():
        raise ArgumentError(
            f"timesteps of dtype {given.dtype}: the times of {settings.origin} are "
            "log(sigma) / 4 and no integers; draw them from "
            "scheduler.timesteps, or as torch.log(sigma) / 4"
        )
    batch = like.shape[0] if like.ndim else 1
    if given.numel() not in (1, batch) or batch == 0:
        raise ArgumentError(
            f"timesteps of shape {tuple(given.shape)} for {batch} samples: give one time, or "
            "one a sample"
        )
    return given.flatten()


def _rounded(run: Compiled | None, given: Tensor) -> set[float]:
    """The run's times as ``given`` can hold them."""
    if run is None:
        return set()
    return {*run.labels, *torch.tensor(run.labels).to(_kept(given)).tolist()}


def _kept(given: Tensor) -> torch.dtype:
    """What is left of the run's times, which are float32, in the dtype of ``given``."""
    return given.dtype if given.is_floating_point() and given.dtype.itemsize < 4 else torch.float32


def _check(
    values: list[float], low: float, high: float, also: set[float], settings: Settings
) -> None:
    for value in values:
        if not low <= value <= high and value not in also:
            kinds = {
                DiscreteVP: "entries of the training table",
                Flow: "num_train_timesteps times the flow's sigma",
            }
            kind = kinds.get(
                type(settings.schedule),
                "log(sigma) / 4" if isinstance(settings.schedule, NoisePath) else "the path's time",
            )
            raise ArgumentError(
                f"timesteps: {value!r} is outside of {low:.6g} to {high:.6g} ({kind}) and no "
                "time of a run that is set up"
            )


def add_noise(x: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """``alpha x0 + sigma noise``. ArgumentError where their shapes do not go together."""
    _fit(x, noise)
    return alpha * x + sigma * noise


def velocity(x: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """``alpha noise - sigma x0``. ArgumentError where their shapes do not go together."""
    _fit(x, noise)
    return alpha * noise - sigma * x


def _fit(x: Tensor, noise: Any) -> None:
    """ArgumentError where ``noise`` is no noise for ``x``: each of its sizes is that of the
    samples, or 1."""
    if not isinstance(noise, Tensor):
        raise ArgumentError(
            f"noise of type {type(noise).__name__} must be a tensor of the samples' shape, "
            f"{tuple(x.shape)}"
        )
    if noise.ndim > x.ndim or any(
        n not in (1, m) for n, m in zip(reversed(noise.shape), reversed(x.shape), strict=False)
    ):
        raise ArgumentError(
            f"noise of shape {tuple(noise.shape)} for samples of shape {tuple(x.shape)}: "
            "they must be equal"
        )

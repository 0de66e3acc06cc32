"""Noise of a path whose kernel is not Gaussian (``schedules.PFGMPP``): one random number per
sample, made from its seed, scales the normals.

The numbers are quantiles of the kernel's distribution at standard normals from a separate random
stream: draw 0 for the start state, draw k + 1 for the jump with noise k. A schedule has such a
kernel if it has ``kernel_scale`` and ``jump_scale``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..fused.noise.seeded import normals
from ..plans.plan import Plan
from ..plans.running.loop import Noise, NoiseSource
from ..schedules.base import Schedule
from .traced_noise import refuse_traced

#: random stream of the normals from which the scale factors are computed
TAIL_STREAM = 0x7A11


def kernel_noise(
    schedule: Schedule, seeds: Sequence[int], z: Tensor, particles: Sequence[int] | None = None
) -> Tensor:
    """Return the start noise of ``schedule`` from the normals ``z`` (B, *shape) of the seeds and
    ``particles`` (None: 0)."""
    scale: Any = getattr(schedule, "kernel_scale", None)
    return z if scale is None else _times(z, scale(_levels(seeds, 0, particles)[:, 0]))


def path_noise(schedule: Schedule, plan: Plan, noise: Noise) -> Noise:
    """Return ``noise`` with heavy tails in the draws of jumps to more noise. Noise that is not made
    from ``seeds`` is returned unchanged."""
    scale: Any = getattr(schedule, "jump_scale", None)
    seeds: Sequence[int] | None = getattr(noise, "seeds", None)
    if scale is None or seeds is None or not plan.draws or not callable(noise):
        return noise
    refuse_traced("noise from seeds with heavy tails")
    return _jumping(scale, plan, noise, seeds, getattr(noise, "particles", None))


def _jumping(
    scale: Any,
    plan: Plan,
    noise: NoiseSource,
    seeds: Sequence[int],
    particles: Sequence[int] | None,
) -> NoiseSource:
    def source(key: int, like: Tensor) -> Tensor:
        z, draw = noise(key, like), plan.draws[key]
        if draw.end.sigma <= draw.start.sigma:
            return z
        levels = _levels(seeds, key + 1, particles)
        return _times(z, scale(levels[:, 0], levels[:, 1], draw.start.sigma, draw.end.sigma))

    return source


def _levels(seeds: Sequence[int], draw: int, particles: Sequence[int] | None) -> np.ndarray:
    """Two standard normals per sample, (B, 2) float64."""
    found: np.ndarray = normals(
        seeds,
        (2,),
        stream=TAIL_STREAM,
        draw=draw,
        device="cpu",
        dtype=torch.float64,
        particles=particles,
    ).numpy()
    return found


def _times(z: Tensor, factor: np.ndarray) -> Tensor:
    return z * torch.from_numpy(factor).to(z).reshape(-1, *(1,) * (z.ndim - 1))

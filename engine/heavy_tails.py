"""Noise of a path whose kernel is not Gaussian (``schedules.PFGMPP``): one number a sample, made
from its seed, scales the normals.

The numbers are inversions of the distribution at standard normals of a stream of their own: draw 0
for the start state, draw k + 1 for the jump with noise k. A schedule has such a kernel if it has
``kernel_scale`` and ``jump_scale``.
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

#: the normals behind the numbers
TAIL_STREAM = 0x7A11


def kernel_noise(schedule: Schedule, seeds: Sequence[int], z: Tensor) -> Tensor:
    """The start noise of ``schedule`` from the normals ``z`` (B, *shape) of the seeds."""
    scale: Any = getattr(schedule, "kernel_scale", None)
    return z if scale is None else _times(z, scale(_levels(seeds, 0)[:, 0]))


def path_noise(schedule: Schedule, plan: Plan, noise: Noise) -> Noise:
    """``noise`` with heavy tails where a jump to more noise uses it; noise that is not made from
    ``seeds`` is left as it is."""
    scale: Any = getattr(schedule, "jump_scale", None)
    seeds: Sequence[int] | None = getattr(noise, "seeds", None)
    if scale is None or seeds is None or not plan.draws or not callable(noise):
        return noise
    return _jumping(scale, plan, noise, seeds)


def _jumping(scale: Any, plan: Plan, noise: NoiseSource, seeds: Sequence[int]) -> NoiseSource:
    def source(key: int, like: Tensor) -> Tensor:
        z, draw = noise(key, like), plan.draws[key]
        if draw.end.sigma <= draw.start.sigma:
            return z
        levels = _levels(seeds, key + 1)
        return _times(z, scale(levels[:, 0], levels[:, 1], draw.start.sigma, draw.end.sigma))

    return source


def _levels(seeds: Sequence[int], draw: int) -> np.ndarray:
    """Two normals a sample, (B, 2) float64."""
    found: np.ndarray = normals(
        seeds, (2,), stream=TAIL_STREAM, draw=draw, device="cpu", dtype=torch.float64
    ).numpy()
    return found


def _times(z: Tensor, factor: np.ndarray) -> Tensor:
    return z * torch.from_numpy(factor).to(z).reshape(-1, *(1,) * (z.ndim - 1))

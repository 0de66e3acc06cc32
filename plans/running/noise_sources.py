"""Where a run takes its noise from: a callable, or tensors by the plan's keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentError, described, shown
from ...fused.linear.native import KERNEL
from ...fused.noise.seeded import SeededNoise
from ..instructions import PlanError
from .finiteness import check_noise

#: ``noise(key, like)`` gives the unit normal of draw ``key``, shaped like ``like``
NoiseSource = Callable[[int, Tensor], Tensor]
Noise = NoiseSource | Mapping[int, Tensor] | Sequence[Tensor] | None


def noise_source(noise: Noise) -> NoiseSource | None:
    """A callable ``(key, like) -> z`` from a callable, a mapping by key or a sequence by key."""
    if noise is None or callable(noise):
        return noise
    given: Any = noise
    if (
        isinstance(given, str)
        or not hasattr(given, "__getitem__")
        or not hasattr(given, "__len__")
        or getattr(given, "ndim", 1) == 0
    ):
        raise ArgumentError(
            f"noise={shown(noise)}: must be a function (key, like), or tensors by key"
        )

    def source(key: int, like: Tensor) -> Tensor:
        try:
            z = given[key]
        except (KeyError, IndexError):
            raise PlanError(f"the plan needs noise {key}, but {len(given)} are given") from None
        if tuple(getattr(z, "shape", ())) != tuple(like.shape):
            raise ArgumentError(
                f"noise {key} must be of the state's shape {tuple(like.shape)}, got {described(z)}"
            )
        try:
            return torch.as_tensor(z, dtype=like.dtype, device=like.device)
        except (TypeError, ValueError, RuntimeError, NotImplementedError):
            raise ArgumentError(f"noise {key} must hold real numbers, got {described(z)}") from None

    return source


def drawn(noise: NoiseSource | None, key: int, like: Tensor, again: bool) -> Any:
    """The noise ``key`` of a launch. Where triton computes the launch and no other one reads the
    noise (``again``), that of seeds is left for the launch to draw."""
    if noise is None:
        raise PlanError("this plan draws noise: give noise= or seeds")
    free = KERNEL.device is None and like.is_cpu  # quick: no kernel of triton runs there
    if not (free or again) and type(noise) is SeededNoise and KERNEL.by_triton(like.device):
        return noise.later(key, like)
    z = noise(key, like)
    check_noise(z, key, like)
    return z

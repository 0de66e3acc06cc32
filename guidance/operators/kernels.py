"""Kernels of blur, float64, that add up to 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...checks import ArgumentError, between, integer, number
from .masks import seeded

#: points on the path of a motion
POINTS = 2000


def gaussian_kernel(std: float | Sequence[float], size: int | None = None) -> Tensor:
    """``exp(-(i^2 / s_h^2 + j^2 / s_w^2) / 2)`` on (size, size) places, normed.

    ``std``: in pixels, one number or (s_h, s_w), > 0; ``size``: odd, default 2 ceil(3 std) + 1.
    """
    both = [std, std] if isinstance(std, (int, float)) else list(std)
    if len(both) != 2:
        raise ArgumentError(f"std={std!r}: must be one number or two, (vertical, horizontal)")
    high, broad = (float(between("std", s, 0.0)) for s in both)
    count = 2 * math.ceil(3.0 * max(high, broad)) + 1 if size is None else odd("size", size)
    place = torch.arange(count, dtype=torch.float64) - count // 2
    rows, columns = (torch.exp(-0.5 * (place / s) ** 2) for s in (high, broad))
    return torch.outer(rows / rows.sum(), columns / columns.sum())


def motion_kernel(size: int, intensity: float = 0.5, seed: int = 0) -> Tensor:
    """The path of a shaking camera on (size, size) places: a walk whose direction does a random
    walk by ``seed``; ``intensity`` is its turning over the whole path, in units of pi, 0 for a
    straight line. ``size``: odd, >= 3. The path fills the kernel in its longer direction."""
    count = odd("size", size, 3)
    turning = number("intensity", intensity, 0.0)
    generator = seeded(seed)
    draws = torch.randn(POINTS, generator=generator, dtype=torch.float64)
    first = torch.rand(1, generator=generator, dtype=torch.float64) * 2.0 * math.pi
    angle = first + turning * math.pi / math.sqrt(POINTS) * draws.cumsum(0)
    path = torch.stack([angle.sin(), angle.cos()]).cumsum(1)
    low, high = path.amin(1, keepdim=True), path.amax(1, keepdim=True)
    path = (path - 0.5 * (low + high)) / (high - low).max() * (count - 1) + count // 2
    path = path.clamp(0.0, count - 1.0)
    base = path.floor().clamp_max(count - 2.0)
    part, at = path - base, base.long()
    kernel = torch.zeros(count * count, dtype=torch.float64)
    for dy in (0, 1):
        for dx in (0, 1):
            share = (part[0] if dy else 1.0 - part[0]) * (part[1] if dx else 1.0 - part[1])
            kernel.index_add_(0, (at[0] + dy) * count + at[1] + dx, share)
    return (kernel / kernel.sum()).reshape(count, count)


def odd(name: str, value: int, low: int = 1) -> int:
    """An odd integer >= low. Raises ArgumentError."""
    found = integer(name, value, low)
    if not found % 2:
        raise ArgumentError(f"{name}={found}: must be odd, so that the kernel has a centre")
    return found

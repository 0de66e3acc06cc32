"""The grid of the Mochi video model: linear in t over the first half of the steps, then
quadratic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....checks import between
from ..frame import Frame
from ..registry import register


@dataclass(frozen=True)
class LinearQuadratic:
    """``threshold`` in (0, 0.5): how much t falls over the linear half."""

    threshold: float = 0.025

    def __post_init__(self) -> None:
        between("threshold", self.threshold, 0, 0.5)


@register("linear_quadratic", in_t=True)
def linear_quadratic(frame: Frame, options: LinearQuadratic) -> list[float]:
    """t falls linearly by ``threshold`` over the first half of the steps, then quadratically to
    0."""
    n, threshold = frame.steps, options.threshold
    half = max(n // 2, 1)
    i = np.arange(n, dtype=np.float64)
    gap = half - threshold * n
    a = gap / (half * (n - half) ** 2) if n > half else 0.0
    b = threshold / half - 2.0 * gap / (n - half) ** 2 if n > half else 0.0
    g = np.where(i < half, i * threshold / half, a * i * i + b * i + a * half * half)
    inner = frame.warp(frame.bottom + (frame.base_top - frame.bottom) * (1.0 - g[1:]))
    return frame.open([frame.top, *inner])

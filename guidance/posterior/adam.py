"""Adam, as a pure function."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import Self


class Adam(NamedTuple):
    """The means of a gradient and of its square (Kingma & Ba 2015, arXiv 1412.6980, algorithm
    1)."""

    mean: Tensor
    square: Tensor
    steps: int = 0

    @classmethod
    def like(cls, x: Tensor) -> Self:
        """At the start, for a variable shaped like ``x``."""
        return cls(torch.zeros_like(x), torch.zeros_like(x))

    def step(
        self, gradient: Tensor, rate: float, betas: tuple[float, float]
    ) -> tuple[Tensor, Adam]:
        """What is to be subtracted from the variable, and the next means."""
        (a, b), k = betas, self.steps + 1
        mean = a * self.mean + (1.0 - a) * gradient
        square = b * self.square + (1.0 - b) * gradient.square()
        size = (square / (1.0 - b**k)).sqrt() + 1e-8
        return rate * mean / (1.0 - a**k) / size, Adam(mean, square, k)

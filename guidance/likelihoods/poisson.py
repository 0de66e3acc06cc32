"""Measurements that count photons."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, between, number
from ...models.exact import wide
from ..operators.accepted import as_operator
from ..operators.masks import seeded
from .likelihood import Likelihood


class Poisson(Likelihood):
    """``y = k / gain, k ~ Poisson(gain A(x0 - dark))``: counts k, divided by the gain, so that y
    has the mean A(x0 - dark) and the variance of that over the gain.

        log p(y | x0) = sum_i k_i log r_i - r_i - log k_i!,    r = gain A(x0 - dark)

    For images in [-1, 1] dark = -1: black is no light, white has about 2 gain counts. A must not
    make negative values of positive ones (masks, averages and blur do not). Zero-filled places have
    no counts and no light. Where r falls below ``floor`` counts, as it does for predictions that
    are darker than black, log p goes on along its tangent there, so that its gradient stays finite;
    it is 0 where k = 0 and r < 0.
    """

    gaussian = False

    def __init__(
        self, operator: Any, y: Tensor, gain: float = 1.0, dark: float = -1.0, floor: float = 0.1
    ) -> None:
        """Args:
            operator: A; see ``Gaussian``.
            y: counts divided by the gain, >= 0, shaped like ``A(x0)[0]``, or (B, ...).
            gain: counts a unit of A, > 0.
            dark: value of a sample without light.
            floor: counts, > 0.

        Raises ArgumentError for other values.
        """
        super().__init__(operator, y)
        self.gain = float(between("gain", gain, 0.0))
        self.dark = float(number("dark", dark))
        self.floor = float(between("floor", floor, 0.0))
        if bool((self.y < 0.0).any()):
            raise ArgumentError("y has negative values; counts are at least 0")

    def __repr__(self) -> str:
        own = f"{self.operator!r}, y={tuple(self.y.shape)}, gain={self.gain}, dark={self.dark}"
        return f"Poisson({own})"

    @staticmethod
    def simulate(
        operator: Any, x0: Tensor, gain: float = 1.0, dark: float = -1.0, seed: int = 0
    ) -> Tensor:
        """A measurement of x0 (B, *shape), drawn by ``seed``. Raises ArgumentError where
        A(x0 - dark) is negative."""
        value = as_operator(operator)(x0 - number("dark", dark))
        rate = between("gain", gain, 0.0) * value.detach().cpu().double()
        # rounding of a transform may leave a little less than nothing
        if float(rate.min()) < -1e-5 * float(rate.abs().max()):
            raise ArgumentError(
                f"A(x0 - dark) has negative values, down to {float(value.min()):.3g}"
            )
        return (torch.poisson(rate.clamp_min(0.0), generator=seeded(seed)) / gain).to(value)

    @override
    def light(self, x0: Tensor) -> Tensor:
        return x0 - self.dark

    def _parts(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Counts, rate, rate of at least ``floor``, and whether the law says nothing there."""
        counts, rate = self.gain * self.data(value), self.gain * value
        return counts, rate, rate.clamp_min(self.floor), (counts == 0.0) & (rate < 0.0)

    @override
    def log_density(self, value: Tensor) -> Tensor:
        k, rate, c, silent = self._parts(value.to(wide(value.device)))
        each = k * c.log() - c + (k / c - 1.0) * (rate - c) - torch.lgamma(k + 1.0)
        return torch.where(silent, 0.0, each).flatten(1).sum(1)

    @override
    def slope(self, value: Tensor) -> Tensor:
        k, _, c, silent = self._parts(value)
        return torch.where(silent, 0.0, self.gain * (k / c - 1.0))

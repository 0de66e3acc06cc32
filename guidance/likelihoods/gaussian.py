"""Measurements with Gaussian noise."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import between
from ...models.exact import wide
from .likelihood import Likelihood


class Gaussian(Likelihood):
    """``y = A(x0) + n, n ~ N(0, sigma_y^2 I)``."""

    def __init__(self, operator: Any, y: Tensor, sigma_y: float = 0.1) -> None:
        """Args:
            operator: A, one of ``guidance.operators``, an object with ``A`` and ``A_adjoint``, a
                matrix, or a differentiable function of a batch.
            y: the measurement, shaped like ``A(x0)[0]``, or (B, ...) with one for each sample.
            sigma_y: standard deviation of the noise, in the units of y; > 0.

        Raises ArgumentError for a measurement with NaN and for other values of sigma_y.
        """
        super().__init__(operator, y)
        self.sigma_y = float(between("sigma_y", sigma_y, 0.0))

    @override
    def log_density(self, value: Tensor) -> Tensor:
        away = (self.data(value) - value).to(wide(value.device)) / self.sigma_y
        # where nothing is observed there is no noise
        seen = self.operator.zero_filled(torch.ones_like(value)).to(away)
        each = -0.5 * away**2 - seen * math.log(self.sigma_y * math.sqrt(2.0 * math.pi))
        return each.flatten(1).sum(1)

    @override
    def slope(self, value: Tensor) -> Tensor:
        return (self.data(value) - value) / self.sigma_y**2

"""Measurements with Gaussian noise."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...checks import between
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

"""Exact constraints."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...checks import ArgumentError
from .likelihood import Likelihood


class Constraint(Likelihood):
    """``A(x0) = y`` exactly, for a linear A, such as a conservation law or values without noise."""

    sigma_y = 0.0

    def __init__(self, operator: Any, y: Tensor) -> None:
        """``operator``, ``y``: as in ``Gaussian``. Raises ArgumentError for an operator that is not
        linear."""
        super().__init__(operator, y)
        if not self.operator.linear:
            raise ArgumentError(
                f"{self.operator!r} is not linear: use Gaussian with a small sigma_y, or pass "
                "operators.Callable(f, linear=True, ...) if f is linear"
            )

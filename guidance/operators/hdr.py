"""Over-exposed images."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, between, number
from .operator import Operator


class HDR(Operator):
    """``A(x) = clip(gain x, low, high)`` of each element: an exposure whose bright and dark parts
    saturate; to be undone for a high dynamic range.

    Not linear; the derivative is ``gain`` inside and 0 where it saturates. ``pinverse`` is ``y /
    gain``, for which ``A A^+ A = A``. |A(x) - A(z)| <= gain |x - z|.
    """

    linear = False

    def __init__(self, gain: float = 2.0, low: float = -1.0, high: float = 1.0) -> None:
        """``gain``: > 0; ``low`` < ``high``. Raises ArgumentError otherwise."""
        self.gain = float(between("gain", gain, 0.0))
        self.low, self.high = float(number("low", low)), float(number("high", high))
        if not self.low < self.high:
            raise ArgumentError(f"low={low} must be smaller than high={high}")
        self.norm_bound = self.gain

    def __repr__(self) -> str:
        return f"HDR({self.gain}, {self.low}, {self.high})"

    @override
    def __call__(self, x: Tensor) -> Tensor:
        return (self.gain * self.wide(x)).clamp(self.low, self.high)

    @override
    def pinverse(self, y: Tensor) -> Tensor:
        return self.wide(y) / self.gain

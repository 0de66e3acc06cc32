"""Elements on few levels."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, integer, number
from .operator import Operator
from .rounding import gradient_of, rounded


class Quantisation(Operator):
    """Every element rounded to the nearest of ``levels`` equal steps from ``low`` to ``high``, and
    clipped to them.

    Not linear. Its derivative is 0 almost everywhere: "straight-through" takes rounding for the
    identity (1 inside of [low, high], 0 outside), which is no derivative of A; with "none" methods
    that differentiate A refuse it. ``pinverse`` is the identity, for which ``A A^+ A = A``.
    """

    linear = False

    def __init__(
        self,
        levels: int,
        low: float = -1.0,
        high: float = 1.0,
        gradient: str = "straight-through",
    ) -> None:
        """``levels``: >= 2; ``low`` < ``high``; ``gradient``: "straight-through" or "none". Raises
        ArgumentError otherwise."""
        self.levels = integer("levels", levels, 2)
        self.low, self.high = float(number("low", low)), float(number("high", high))
        if not self.low < self.high:
            raise ArgumentError(f"low={low} must be smaller than high={high}")
        self.gradient = gradient_of(gradient)
        self.differentiable = self.gradient != "none"

    def __repr__(self) -> str:
        return f"Quantisation({self.levels}, {self.low}, {self.high}, {self.gradient!r})"

    @override
    def __call__(self, x: Tensor) -> Tensor:
        wide = self.wide(x if self.differentiable else x.detach())
        step = (self.high - self.low) / (self.levels - 1)
        found: Tensor = self.low + step * rounded(
            (wide.clamp(self.low, self.high) - self.low) / step
        )
        return found

    @override
    def pinverse(self, y: Tensor) -> Tensor:
        return self.wide(y)

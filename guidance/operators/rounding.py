"""Rounding, whose derivative is chosen: it is 0 almost everywhere."""

from __future__ import annotations

from torch import Tensor

from ...checks import choice

#: "straight-through": rounding counts as the identity (Bengio et al. 2013, arXiv 1308.3432);
#: "none": methods that differentiate the operator refuse it
GRADIENTS = ("straight-through", "none")


def gradient_of(value: str) -> str:
    """One of ``GRADIENTS``. Raises ArgumentError with the nearest match."""
    return choice("gradient", value, GRADIENTS)


def rounded(x: Tensor) -> Tensor:
    """The nearest integer, to even ones from the middle, with the derivative of the identity."""
    return x + (x.round() - x).detach()

"""Grey versions of coloured images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, integer, number, shown
from .operator import Operator
from .spectrum import Spectrum, same


class Colourisation(Operator):
    """``A(x) = sum_c w_c x_c``: one grey value for the channels of (B, C, ...), y (B, 1, ...).

    ``A A^T = |w|^2 I``; the singular value of all places is |w|.
    """

    def __init__(self, weights: int | Sequence[float] = 3) -> None:
        """``weights``: w, finite, not all 0, such as (0.299, 0.587, 0.114); a number C of channels
        stands for their mean. Raises ArgumentError otherwise."""
        if isinstance(weights, int):
            count = integer("weights", weights, 1)
            weights = [1.0 / count] * count
        if not isinstance(weights, (list, tuple)) or not weights:
            raise ArgumentError(f"weights={shown(weights)}: must be numbers, or how many there are")
        self.weights = tuple(float(number("weights", w)) for w in weights)
        if not any(self.weights):
            raise ArgumentError(f"weights={self.weights}: must not all be 0")
        self._size = math.hypot(*self.weights)
        self.norm_bound = self._size

    def __repr__(self) -> str:
        return f"Colourisation({tuple(round(w, 4) for w in self.weights)})"

    def _column(self, like: Tensor) -> Tensor:
        w = self.stored("weights", like, lambda: torch.tensor(self.weights, dtype=torch.float64))
        return w.reshape(-1, *(1,) * (like.ndim - 2))

    @override
    def __call__(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != len(self.weights):
            raise ArgumentError(
                f"{self!r} takes {len(self.weights)} channels first; the samples have shape "
                f"{tuple(x.shape[1:])}"
            )
        return (self.wide(x) * self._column(x)).sum(1, keepdim=True)

    @override
    def adjoint(self, y: Tensor) -> Tensor:
        return self.wide(y) * self._column(y)

    @property
    @override
    def svd(self) -> Spectrum:
        return Spectrum(
            V=lambda c: self.adjoint(c) / self._size,
            Vt=lambda x: self(x) / self._size,
            U=same,
            Ut=self.wide,
            values=lambda c: torch.full_like(c[:1], self._size),
            onto=True,
        )

"""Several measurements of one sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError
from .accepted import as_operator
from .operator import Operator


class Stack(Operator):
    """``A(x) = (w_1 A_1(x), w_2 A_2(x), ...)``, flattened one after another: y is (m_1 + m_2 + ...)
    numbers; ``join`` makes it from the single ones. Weights express different noise levels:
    ``w_i = sigma_y / sigma_i``."""

    def __init__(self, operators: Sequence[Any], weights: Sequence[float] | None = None) -> None:
        """``operators``: at least one, see ``as_operator``; ``weights``: one each, not 0, default
        1. Raises ArgumentError otherwise."""
        self.operators = tuple(as_operator(value) for value in operators)
        own = [1.0] * len(self.operators) if weights is None else [float(w) for w in weights]
        if not self.operators or len(own) != len(self.operators):
            raise ArgumentError(f"{len(self.operators)} operators and {len(own)} weights")
        if not all(math.isfinite(w) and w for w in own):
            raise ArgumentError(f"weights={own}: must be finite and not 0")
        self.weights = tuple(own)
        self.linear = all(operator.linear for operator in self.operators)
        self.differentiable = all(operator.differentiable for operator in self.operators)
        bounds = [operator.norm_bound for operator in self.operators]
        known = [abs(w) * b for w, b in zip(own, bounds, strict=True) if b is not None]
        self.norm_bound = math.hypot(*known) if len(known) == len(bounds) else None
        self._sizes: tuple[torch.Size, ...] | None = None

    def __repr__(self) -> str:
        return f"Stack({', '.join(map(repr, self.operators))})"

    def join(self, *parts: Tensor) -> Tensor:
        """The measurement (B, m) of the single ones, each (B, *measured)."""
        if len(parts) != len(self.operators):
            raise ArgumentError(f"{len(parts)} measurements for {len(self.operators)} operators")
        return torch.cat(
            [w * part.flatten(1) for w, part in zip(self.weights, parts, strict=True)], 1
        )

    @override
    def __call__(self, x: Tensor) -> Tensor:
        parts = [operator(x) for operator in self.operators]
        self._sizes = tuple(part.shape[1:] for part in parts)
        return self.join(*parts)

    @override
    def adjoint(self, y: Tensor) -> Tensor:
        total: Tensor | None = None
        for operator, w, piece in zip(self.operators, self.weights, self.split(y), strict=True):
            part = operator.adjoint(w * piece)
            total = part if total is None else total + part.reshape_as(total)
        assert total is not None
        return total

    def split(self, y: Tensor) -> tuple[Tensor, ...]:
        """``y`` (B, m) in parts, each (B, *measured) of its operator, weights included."""
        if self._sizes is None:
            raise ArgumentError("call the Stack once before its adjoint: it then knows the sizes")
        pieces = torch.split(y, [size.numel() for size in self._sizes], 1)
        return tuple(
            piece.reshape(y.shape[0], *size)
            for piece, size in zip(pieces, self._sizes, strict=True)
        )

    @override
    def zero_filled(self, y: Tensor) -> Tensor:
        parts = zip(self.operators, self.split(y), strict=True)
        return torch.cat([operator.zero_filled(part).flatten(1) for operator, part in parts], 1)

    @override
    def samples(self, shape: Sequence[int]) -> int | None:
        known = [operator.samples(shape) for operator in self.operators]
        return next((count for count in known if count is not None), None)

    @override
    def select(self, rows: Tensor) -> Self:
        inner = tuple(operator.select(rows) for operator in self.operators)
        if all(a is b for a, b in zip(inner, self.operators, strict=True)):
            return self
        made = copy(self)
        made.operators = inner
        return made

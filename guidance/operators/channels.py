"""Forward models of some of the channels (fields) of a sample."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError, integer
from .accepted import as_operator
from .derivatives import checked_output
from .operator import Operator
from .spectrum import Spectrum, same


class Channels(Operator):
    """``A(x) = B(x[:, channels])``: an operator of some channels of a sample (C, ...), such as one
    field of several; without one, the channels themselves."""

    def __init__(self, channels: int | Sequence[int], of: int, operator: Any = None) -> None:
        """Args:
            channels: their numbers, from 0, each once.
            of: number C of channels of a sample.
            operator: B, of (B, len(channels), ...); see ``as_operator``.

        Raises ArgumentError for other numbers.
        """
        self.of = integer("of", of, 1)
        given = [channels] if isinstance(channels, int) else list(channels)
        self.channels = tuple(integer("channels", c, 0, self.of - 1) for c in given)
        if not self.channels or len(set(self.channels)) != len(self.channels):
            raise ArgumentError(f"channels={self.channels}: name each at most once, at least one")
        self.operator = None if operator is None else as_operator(operator)
        self.linear = self.operator is None or self.operator.linear
        self.differentiable = self.operator is None or self.operator.differentiable
        self.norm_bound = 1.0 if self.operator is None else self.operator.norm_bound

    def __repr__(self) -> str:
        inner = "" if self.operator is None else f", {self.operator!r}"
        return f"Channels({self.channels} of {self.of}{inner})"

    @property
    @override
    def solvable(self) -> bool:
        return self.operator is None or self.operator.solvable

    @property
    @override
    def invertible(self) -> bool:
        return self.operator is None or self.operator.invertible

    def _own(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != self.of:
            raise ArgumentError(
                f"the samples have shape {tuple(x.shape[1:])}; the operator takes {self.of} "
                "channels first"
            )
        return self.wide(x[:, list(self.channels)])

    @override
    def __call__(self, x: Tensor) -> Tensor:
        own = self._own(x)
        return own if self.operator is None else checked_output(self.operator(own), x, self)

    def _spread(self, part: Tensor) -> Tensor:
        if part.ndim < 3 and self.operator is not None and part.shape[1] != len(self.channels):
            part = part.reshape(part.shape[0], len(self.channels), -1)
        made = part.new_zeros((part.shape[0], self.of, *part.shape[2:]))
        made[:, list(self.channels)] = part
        return made

    @override
    def adjoint(self, y: Tensor) -> Tensor:
        return self._spread(y if self.operator is None else self.operator.adjoint(y))

    @property
    @override
    def svd(self) -> Spectrum | None:
        if self.operator is None:
            return Spectrum(self._spread, self._own, same, same, torch.ones_like, onto=True)
        inner = self.operator.svd
        if inner is None:
            return None
        return replace(
            inner,
            V=lambda c: self._spread(inner.V(c)),
            Vt=lambda x: inner.Vt(self._own(x)),
        )

    @override
    def pinverse(self, y: Tensor) -> Tensor:
        return self._spread(y if self.operator is None else self.operator.pinverse(y))

    @override
    def gram_solve(self, y: Tensor, scale: Tensor | float, shift: float) -> Tensor | None:
        if self.operator is None:
            return y / (scale + shift)
        return self.operator.gram_solve(y, scale, shift)

    @override
    def prox(self, x: Tensor, y: Tensor, rho: Tensor | float) -> Tensor:
        own = self._own(x)
        if self.operator is None:
            part = (y + rho * own) / (1.0 + rho)
        else:
            part = self.operator.prox(own, y, rho)
        made = self.wide(x).clone()
        made[:, list(self.channels)] = part
        return made

    @override
    def samples(self, shape: Sequence[int]) -> int | None:
        inner = (len(self.channels), *shape[1:])
        return None if self.operator is None else self.operator.samples(inner)

    @override
    def zero_filled(self, y: Tensor) -> Tensor:
        return y if self.operator is None else self.operator.zero_filled(y)

    @override
    def select(self, rows: Tensor) -> Self:
        if self.operator is None:
            return self
        inner = self.operator.select(rows)
        if inner is self.operator:
            return self
        made = copy(self)
        made.operator = inner
        return made

"""Any function of a batch as a forward model."""

from __future__ import annotations

from collections import abc
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, flag, integer, shown
from .derivatives import checked_output, linearised
from .operator import Operator

Map = abc.Callable[[Tensor], Tensor]


class Callable(Operator):
    """``A(x) = f(x)``, any differentiable function of torch; its derivative and, for a linear f,
    its adjoint are those of automatic differentiation, unless ``adjoint`` gives the latter."""

    def __init__(
        self,
        f: Map,
        *,
        linear: bool | None = None,
        adjoint: Map | None = None,
        pinverse: Map | None = None,
        shape: Sequence[int] | None = None,
        differentiable: bool = True,
    ) -> None:
        """Args:
            f: maps a batch (B, *shape) to a batch (B, *measured); the samples do not mix.
            linear: whether f is linear; default: whether ``adjoint`` is given.
            adjoint: ``f^T``, (B, *measured) to (B, *shape).
            pinverse: ``f^+``, with ``f f^+ f = f``, (B, *measured) to (B, *shape).
            shape: of one sample; needed for the adjoint of a linear f without ``adjoint``.
            differentiable: whether automatic differentiation goes through f; if not, methods that
                differentiate it refuse it before the first call.

        Raises ArgumentError for other arguments.
        """
        for name, value in (("f", f), ("adjoint", adjoint), ("pinverse", pinverse)):
            if not callable(value) and not (name != "f" and value is None):
                raise ArgumentError(f"{name}={shown(value)}: must be a function of a tensor")
        self.f, self._adjoint, self._pinverse = f, adjoint, pinverse
        self.linear = flag("linear", adjoint is not None if linear is None else linear)
        self.differentiable = flag("differentiable", differentiable)
        if adjoint is not None and not self.linear:
            raise ArgumentError("adjoint= belongs to a linear f, and linear=False is given")
        self.shape = None if shape is None else tuple(integer("shape", n, 1) for n in shape)

    def __repr__(self) -> str:
        name = getattr(self.f, "__name__", type(self.f).__name__)
        return f"Callable({name}, linear={self.linear})"

    @property
    @override
    def invertible(self) -> bool:
        return self._pinverse is not None

    @override
    def __call__(self, x: Tensor) -> Tensor:
        wide = self.wide(x)
        return checked_output(self.f(wide), x, self).to(wide.dtype)

    @override
    def adjoint(self, y: Tensor) -> Tensor:
        if self._adjoint is not None:
            return checked_output(self._adjoint(y), y, self)
        if not self.linear:
            raise ArgumentError(f"{self!r} has no adjoint; if f is linear, pass linear=True")
        if self.shape is None:
            raise ArgumentError(f"{self!r}: the adjoint of f needs shape=, that of one sample")
        zero = torch.zeros((y.shape[0], *self.shape), dtype=y.dtype, device=y.device)
        return linearised(self, zero).adjoint(y)

    @override
    def pinverse(self, y: Tensor) -> Tensor:
        if self._pinverse is None:
            return super().pinverse(y)
        return checked_output(self._pinverse(y), y, self)

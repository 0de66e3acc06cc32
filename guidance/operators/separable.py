"""Forward models of images that are a matrix for each axis: ``A(x) = R x C^T``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .operator import Operator
from .spectrum import Spectrum


class Axis:
    """The matrices (n, n factor) of one axis, for every number n of measured places, in float64;
    ``build(n)`` makes one."""

    def __init__(self, name: str, build: Callable[[int], Tensor], factor: int = 1) -> None:
        self.name, self.factor = name, factor
        self._build = build
        self._made: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}

    def _parts(self, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Matrix, U (n, n), s (n,), V (n factor, n)."""
        if n not in self._made:
            matrix = self._build(n)
            u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
            self._made[n] = (matrix, u, s, vt.T)
        return self._made[n]

    def part(self, operator: Operator, which: int, n: int, like: Tensor) -> Tensor:
        """Part ``which`` of the decomposition, in the precision and on the device of ``like``."""
        return operator.stored((self.name, which, n), like, lambda: self._parts(n)[which])


class Separable:
    """``R x C^T`` of images, with its adjoint and its decomposition."""

    def __init__(self, operator: Operator, rows: Axis, columns: Axis) -> None:
        self._operator, self._rows, self._columns = operator, rows, columns

    def _apply(self, x: Tensor, which: int, transposed: bool, n: int, m: int) -> Tensor:
        wide = self._operator.wide(x)
        r = self._rows.part(self._operator, which, n, wide)
        c = self._columns.part(self._operator, which, m, wide)
        return r.T @ wide @ c if transposed else r @ wide @ c.T

    def _down(self, x: Tensor, which: int, transposed: bool) -> Tensor:
        """From samples: their size is that of the measurement times the factor."""
        n, m = x.shape[-2] // self._rows.factor, x.shape[-1] // self._columns.factor
        return self._apply(x, which, transposed, n, m)

    def _up(self, y: Tensor, which: int, transposed: bool) -> Tensor:
        """From measurements or coordinates."""
        return self._apply(y, which, transposed, y.shape[-2], y.shape[-1])

    def forward(self, x: Tensor) -> Tensor:
        """``R x C^T``."""
        return self._down(x, 0, False)

    def adjoint(self, y: Tensor) -> Tensor:
        """``R^T y C``."""
        return self._up(y, 0, True)

    def spectrum(self, cut: float) -> Spectrum:
        """Its singular values are the products of those of the axes; coordinates have the shape of
        a measurement."""

        def values(c: Tensor) -> Tensor:
            r = self._rows.part(self._operator, 2, c.shape[-2], c)
            return r[:, None] * self._columns.part(self._operator, 2, c.shape[-1], c)

        return Spectrum(
            V=lambda c: self._up(c, 3, False),
            Vt=lambda x: self._down(x, 3, True),
            U=lambda c: self._up(c, 1, False),
            Ut=lambda y: self._up(y, 1, True),
            values=values,
            onto=True,
            cut=cut,
        )

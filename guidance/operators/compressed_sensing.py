"""Random linear measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, choice, integer
from .masks import seeded, sizes
from .matrix import Matrix
from .operator import Operator
from .spectrum import Spectrum, same

KINDS = ("hadamard", "gaussian")


class CompressedSensing(Operator):
    """m random linear measurements of the d elements of a sample, by a seed; y (B, m).

    ``hadamard``: ``A = R H S P``: the elements are shuffled, their signs drawn, orthonormal
    Walsh-Hadamard transforms H mix blocks of them, as large as the largest power of 2 that divides
    d, and m coefficients are kept: ``A A^T = I``, no matrix is stored. ``gaussian``: a matrix of
    N(0, 1 / m), stored in float64 (8 m d bytes), with its decomposition.
    """

    def __init__(
        self, shape: Sequence[int], measurements: int, kind: str = "hadamard", seed: int = 0
    ) -> None:
        """Args:
            shape: of one sample; for "hadamard" with an even number of elements.
            measurements: m, from 1 to d for "hadamard".
            kind: "hadamard" or "gaussian".
            seed: of the shuffling, signs and choice, or of the matrix.

        Raises ArgumentError for other arguments.
        """
        self.shape: tuple[int, ...] = sizes("shape", shape)
        self.kind, size = choice("kind", kind, KINDS), math.prod(self.shape)
        generator = seeded(seed)
        self._matrix: Matrix | None = None
        if self.kind == "gaussian":
            count = integer("measurements", measurements, 1)
            drawn = torch.randn(count, size, generator=generator, dtype=torch.float64)
            self._matrix = Matrix(drawn / math.sqrt(count), self.shape)
            self.norm_bound = self._matrix.norm_bound
        else:
            count, self.norm_bound = integer("measurements", measurements, 1, size), 1.0
            self.block = size & -size
            if self.block == 1:
                raise ArgumentError(
                    f"shape={self.shape} has {size} elements, an odd number, which no "
                    'Walsh-Hadamard transform takes: use kind="gaussian"'
                )
            self._order = torch.randperm(size, generator=generator)
            signs = torch.randint(0, 2, (size,), generator=generator)
            self._signs = 2.0 * signs.double() - 1.0
            self._rows = torch.randperm(size, generator=generator)[:count].sort().values
        self.measurements = count

    def __repr__(self) -> str:
        return f"CompressedSensing({self.shape}, {self.measurements}, kind={self.kind!r})"

    def _flat(self, x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != self.shape:
            raise ArgumentError(f"{self!r}: the samples have shape {tuple(x.shape[1:])}")
        return self.wide(x).flatten(1)

    def _mixed(self, flat: Tensor) -> Tensor:
        blocks = flat.reshape(flat.shape[0], -1, self.block)
        return hadamard(blocks).flatten(1)

    @override
    def __call__(self, x: Tensor) -> Tensor:
        flat = self._flat(x)
        if self._matrix is not None:
            return self._matrix(x)
        shuffled = flat[:, self.stored("order", x, lambda: self._order)]
        mixed = self._mixed(shuffled * self.stored("signs", x, lambda: self._signs))
        return mixed[:, self.stored("rows", x, lambda: self._rows)]

    @override
    def adjoint(self, y: Tensor) -> Tensor:
        if self._matrix is not None:
            return self._matrix.adjoint(y)
        wide = self.wide(y)
        spread = wide.new_zeros(y.shape[0], len(self._order))
        spread[:, self.stored("rows", y, lambda: self._rows)] = wide
        mixed = self._mixed(spread) * self.stored("signs", y, lambda: self._signs)
        back = self.stored("back", y, lambda: self._order.argsort())
        return mixed[:, back].reshape(y.shape[0], *self.shape)

    @property
    @override
    def svd(self) -> Spectrum:
        if self._matrix is not None:
            return self._matrix.svd
        return Spectrum(
            V=self.adjoint,
            Vt=self.__call__,
            U=same,
            Ut=self.wide,
            values=lambda c: torch.ones_like(c[:1]),
            onto=True,
        )


def hadamard(x: Tensor) -> Tensor:
    """The orthonormal Walsh-Hadamard transform of the last axis, 2^k elements in their natural
    order; its own inverse."""
    n, shape = x.shape[-1], x.shape
    h = 1
    while h < n:
        a, b = x.reshape(*shape[:-1], n // (2 * h), 2, h).unbind(-2)
        x = torch.stack([a + b, a - b], -2)
        h *= 2
    return x.reshape(shape) / math.sqrt(n)

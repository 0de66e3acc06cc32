"""A matrix that multiplies the elements of a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, integer, tensor
from .operator import Operator
from .spectrum import CUT, Spectrum


class Matrix(Operator):
    """``A(x) = A vec(x)``: a matrix (m, d), kept in float64, times the d elements of each sample.

    Its pseudo-inverse, ``gram_solve`` and ``prox`` come from one singular value decomposition, made
    at the first use; singular values below 1e-12 of the largest count as 0.
    """

    def __init__(self, A: Tensor, shape: Sequence[int] | None = None) -> None:
        """Args:
            A: (m, d), finite.
            shape: of one sample, for the results of ``adjoint`` and ``pinverse``; default (d,).

        Raises ArgumentError for another number of axes, values that are not finite, and a shape
        that has not d elements.
        """
        given = tensor("A", A)
        if given.ndim != 2 or not given.numel() or not bool(torch.isfinite(given).all()):
            raise ArgumentError(
                f"A has shape {tuple(given.shape)}: must be a matrix (m, d) of finite numbers"
            )
        self.matrix = given.detach().to(
            torch.float64 if given.device.type != "mps" else torch.float32
        )
        own = (given.shape[1],) if shape is None else shape
        self.shape: tuple[int, ...] = tuple(integer("shape", n, 1) for n in own)
        if math.prod(self.shape) != given.shape[1]:
            raise ArgumentError(f"shape={self.shape} has not the {given.shape[1]} columns of A")

    def __repr__(self) -> str:
        return f"Matrix({tuple(self.matrix.shape)}, shape={self.shape})"

    @cached_property
    def _factors(self) -> tuple[Tensor, Tensor, Tensor]:
        u, s, vt = torch.linalg.svd(self.matrix, full_matrices=False)
        keep = s > CUT * s[0]
        return u[:, keep], s[keep], vt[keep]

    @cached_property
    @override
    def svd(self) -> Spectrum:
        """Coordinates (B, r) for rank r."""
        u, s, vt = self._factors
        m = self.matrix.shape[0]

        def flat(x: Tensor) -> Tensor:
            return self.wide(x).flatten(1)

        return Spectrum(
            V=lambda c: (c @ self.to(c, vt)).reshape(c.shape[0], *self.shape),
            Vt=lambda x: flat(x) @ self.to(x, vt).T,
            U=lambda c: c @ self.to(c, u).T,
            Ut=lambda y: flat(y) @ self.to(y, u),
            values=lambda c: self.to(c, s),
            onto=len(s) == m,
        )

    @cached_property
    def norm_bound(self) -> float:  # type: ignore[override]
        """Its largest singular value."""
        return float(torch.linalg.matrix_norm(self.matrix, 2))

    @override
    def __call__(self, x: Tensor) -> Tensor:
        m = self.to(x, self.matrix)
        flat = x.flatten(1).to(m.dtype)
        if flat.shape[1] != m.shape[1]:
            raise ArgumentError(
                f"A has {m.shape[1]} columns, a sample of shape {tuple(x.shape[1:])} has "
                f"{flat.shape[1]} elements"
            )
        return flat @ m.T

    @override
    def adjoint(self, y: Tensor) -> Tensor:
        m = self.to(y, self.matrix)
        return (y.flatten(1).to(m.dtype) @ m).reshape(y.shape[0], *self.shape)

"""Covariances of low rank plus a multiple of the identity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import ArgumentError, integer, number, shown, tensor


@dataclass(frozen=True, eq=False)
class LowRank:
    """``Sigma = sum_i variances_i b_i b_i^T + rest (1 - sum_i b_i b_i^T)``, orthonormal b_i.

    Attributes:
        basis: b, (r, *shape).
        variances: (r,), > 0.
        rest: variance in all other directions, >= 0.
    """

    basis: Tensor
    variances: Tensor
    rest: float

    def __post_init__(self) -> None:
        tensor("basis", self.basis, axes=2)
        tensor("variances", self.variances, axes=1)
        if self.variances.shape != self.basis.shape[:1] or not bool((self.variances > 0.0).all()):
            raise ArgumentError(
                f"{tuple(self.basis.shape)} directions and {shown(tuple(self.variances.shape))} "
                "variances: must be one each, > 0"
            )
        number("rest", self.rest, 0.0)

    @classmethod
    def from_samples(cls, x: Tensor, rank: int | None = None) -> LowRank:
        """The covariance of samples x (n, *shape), n >= 2: their ``rank`` (default n - 1) leading
        directions, and the mean variance of what is left. Cost ``n^2 d + n^3``."""
        given = tensor("x", x, axes=2).detach()
        n, size = given.shape[0], given[0].numel()
        if n < 2 or not bool(torch.isfinite(given).all()):
            raise ArgumentError(f"x must hold at least 2 finite samples, got {n}")
        most = min(n - 1, size)
        rank = most if rank is None else integer("rank", rank, 1, most)
        flat = given.flatten(1)
        away = (flat - flat.mean(0)) / math.sqrt(n - 1.0)
        values, vectors = torch.linalg.eigh((away @ away.T).double())
        values, vectors = values[-rank:].flip(0), vectors[:, -rank:].flip(1)
        keep = values > 1e-12 * values[0]
        values, vectors = values[keep], vectors[:, keep]
        basis = (vectors / values.sqrt()).T.to(away) @ away
        left = float(away.square().sum(dtype=torch.float64) - values.sum())
        rest = max(left, 0.0) / max(size - len(values), 1)
        return cls(basis.reshape(-1, *given.shape[1:]), values.to(away), rest)

    @classmethod
    def of(cls, covariance: Tensor, shape: tuple[int, ...]) -> LowRank:
        """A full covariance (d, d), or variances (*shape). Raises ArgumentError for another
        shape."""
        size = math.prod(shape)
        given = tensor("covariance", covariance, axes=1).detach()
        if tuple(given.shape) == shape:
            given = torch.diag(given.reshape(-1))
        if tuple(given.shape) != (size, size):
            raise ArgumentError(
                f"covariance has shape {tuple(given.shape)}; allowed are {(size, size)} and {shape}"
            )
        values, vectors = torch.linalg.eigh(given.to(torch.float64))
        keep = values > 1e-14 * values[-1]
        return cls(vectors.T[keep].reshape(-1, *shape), values[keep], 0.0)

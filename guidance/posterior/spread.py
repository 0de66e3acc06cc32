"""Covariances of x0 given a state: ``r^2 I``, or that of Gaussian data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import ArgumentError, tensor


@dataclass(frozen=True)
class Spread:
    """``C = Q diag(c) Q^T``, or ``variance I``."""

    variance: float | None
    basis: Tensor | None = None
    values: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """``C x`` for x (B, *shape)."""
        return self._by(x, 1.0)

    def root(self, x: Tensor) -> Tensor:
        """``C^(1/2) x``."""
        return self._by(x, 0.5)

    def _by(self, x: Tensor, power: float) -> Tensor:
        if self.variance is not None:
            scaled: Tensor = self.variance**power * x
            return scaled
        assert self.basis is not None and self.values is not None
        q = self.basis.to(x)
        inside: Tensor = (x.flatten(1) @ q) * self.values.to(x) ** power
        found: Tensor = (inside @ q.T).reshape(x.shape)
        return found


@dataclass(frozen=True)
class PriorSpread:
    """A covariance of the data (d, d), decomposed."""

    basis: Tensor
    variances: Tensor

    @classmethod
    def of(cls, covariance: Tensor) -> PriorSpread:
        """Raises ArgumentError for a tensor that is no covariance matrix."""
        given = tensor("covariance", covariance, axes=2).detach().to("cpu", torch.float64)
        if given.ndim != 2 or given.shape[0] != given.shape[1]:
            raise ArgumentError(f"covariance has shape {tuple(given.shape)}: must be (d, d)")
        if not bool(torch.isfinite(given).all()) or not torch.allclose(given, given.T):
            raise ArgumentError("covariance must be finite and symmetric")
        values, basis = torch.linalg.eigh(given)
        if float(values.min()) < -1e-9 * float(values.max()):
            raise ArgumentError(f"covariance has the eigenvalue {float(values.min()):.3g} < 0")
        return cls(basis, values.clamp_min(0.0))

    def given(self, rho: float) -> Spread:
        """``(Sigma^-1 + rho^-2)^-1``, the covariance of x0 given ``x0 + rho n``."""
        own = self.variances
        if not math.isinf(rho):
            own = own * rho**2 / (own + rho**2)
        return Spread(None, self.basis, own)

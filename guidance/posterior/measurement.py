"""The measurement at one prediction: its residual, and counted products with the derivative of the
operator."""

from __future__ import annotations

from torch import Tensor

from ..likelihoods.likelihood import Likelihood
from .counts import Counts


class Measurement:
    """The operator at ``x0`` (B, *shape); ``value`` is A(x0), ``residual`` is ``y - A(x0)``."""

    def __init__(self, likelihood: Likelihood, x0: Tensor, counts: Counts, graph: bool) -> None:
        counts.operator += 1
        self._at = likelihood.operator.linearise(likelihood.light(x0), graph)
        self._counts, self._shape = counts, x0.shape
        self.value = self._at.value
        self.residual = likelihood.data(self.value) - self.value

    def forward(self, u: Tensor) -> Tensor:
        """``A'(x0) u``, u (B, *shape)."""
        self._counts.operator += 1
        return self._at.forward(u)

    def adjoint(self, v: Tensor) -> Tensor:
        """``A'(x0)^T v``, (B, *shape)."""
        self._counts.adjoint += 1
        return self._at.adjoint(v).reshape(self._shape)

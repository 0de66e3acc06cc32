"""TMPD: the likelihood with the row sums of the model's covariance."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from ..combinations.sample_sums import divided
from .counts import Counts
from .measurement import Measurement
from .posterior import Levels, Posterior
from .prediction import Prediction
from .registry import register


@register(
    "tmpd",
    source="Boys et al. 2023, arXiv 2310.06721",
    needs=("gradients", "adjoint"),
    exact="Gaussian priors with independent elements, measured one by one",
)
class TMPD(Posterior):
    """Tweedie moment projected diffusion: as MMPS with the covariance of the measurements replaced
    by its row sums, a diagonal matrix, so that nothing has to be solved.

        c = sigma_y^2 + max(0, A (sigma^2 / alpha) J A^T 1)
        D' = D + (sigma^2 / alpha) J^T A^T ((y - A D) / c),    J = dD / dx

    (Boys, Girolami, Pidstrigach, Reich, Mosca & Akyildiz 2023, arXiv 2310.06721; 1 is one for each
    measurement, 0 where nothing is observed.) Exact where ``A J A^T`` is diagonal, such as a mask
    on independent elements; elsewhere measurements that depend on each other count more than once,
    or less. A row sum below 0 counts as 0; a measurement without noise whose row sum is 0 is left
    out. An operator that is not linear is linearised at D. Cost of a call: 1 network call, 2
    vector-Jacobian products, 2 operator and 2 adjoint calls.
    """

    @override
    def spent(self) -> Counts:
        return Counts(1, 2, 2, 2)

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        own = Measurement(self.likelihood, self.data(p.value), p.counts, p.graph)
        ones = self.likelihood.operator.zero_filled(torch.ones_like(own.residual))
        rows = own.forward(at.factor * p.vjp(own.adjoint(ones)))
        c = self.likelihood.sigma_y**2 + rows.clamp_min(0.0)
        return p.value + at.factor * p.vjp(own.adjoint(divided(own.residual, c)))

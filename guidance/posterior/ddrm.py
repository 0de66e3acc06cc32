"""DDRM: restoration in the coordinates of the singular value decomposition."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import number
from ...models.denoiser import Denoiser
from ...plans.plan import Plan
from ...schedules.node import Node
from .counts import Counts
from .registry import OWN, register
from .spectral import Spectral
from .stepping import wide


@register(
    "ddrm",
    source="Kawar et al. 2022, arXiv 2201.11793, section 4",
    form="plan",
    needs=("svd", "linear"),
    exact="means of Gaussian data with sharp measurements, nearly",
    sampler=OWN,
)
class DDRM(Spectral):
    """Denoising diffusion restoration: with ``A = U diag(S) V^T``, ``yb = U^T y / S``, and all
    values as coordinates along V, a step to rho = sigma_t / alpha_t is

        x_t / alpha_t = D + sqrt(1 - eta^2) rho eps + eta rho xi                            S = 0
                        D + sqrt(1 - eta^2) rho (yb - D) S / sigma_y + eta rho xi  S rho < sigma_y
                        (1 - w) D + w yb + sqrt(rho^2 - (w sigma_y / S)^2) xi              the rest

    from ``x_T / alpha_T = yb + sqrt(rho_T^2 - (sigma_y / S)^2) xi`` (Kawar, Elad, Ermon & Song
    2022, arXiv 2201.11793, section 4; w is the paper's eta_b). sigma_y is in the units of y. With w
    = 1 the steps are those of ``DDNMPlus``, and so are its limits: for Gaussian data the covariance
    is about 30 % too small for any number of steps. A plan of its own, one call a step; cost of a
    step: 1 network call, 3 products with V^T and 2 with V and U^T; the start has 1 and 2.
    """

    own_start = True

    def __init__(
        self, denoiser: Denoiser, likelihood: Any, eta: float = 0.85, eta_b: float = 1.0
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Gaussian or Constraint with a linear operator that has an SVD.
        eta: share of fresh noise where little or nothing is measured, 0 to 1.
        eta_b: w, the part of the measurement where it is sharper than the state, 0 to 1.
        """
        self.weight = number("eta_b", eta_b, 0.0, 1.0)
        super().__init__(denoiser, likelihood, eta)

    @override
    def planned(self, plan: Plan) -> Counts:
        return super().planned(plan) + Counts(0, 0, 1, 2)

    @override
    def started(self, x: Tensor, node: Node) -> Tensor:
        own = wide(x)
        self.counts.operator += 1
        self.counts.adjoint += 2
        svd = self.likelihood.operator.svd
        now = svd.Vt(own)
        values, yb = self.coordinates(now, own)
        level = node.alpha * self.likelihood.sigma_y / torch.where(values > 0.0, values, 1.0)
        sharp = (values > 0.0) & (level < node.sigma)
        share = (1.0 - (level / node.sigma).square()).clamp_min(0.0).sqrt()
        change = torch.where(sharp, node.alpha * yb + (share - 1.0) * now, 0.0)
        first: Tensor = (own + svd.V(change).reshape(own.shape)).to(x.dtype)
        return first

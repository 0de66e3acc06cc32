"""MPGD and its family: gradients by the prediction, none by the network."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import between, choice, number
from ...models.denoiser import Denoiser
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from .counts import Counts
from .dps import unit
from .measurement import Measurement
from .posterior import Levels
from .prediction import Prediction
from .registry import OWN, register
from .split import NOISES, Split, split_plan


@register(
    "mpgd",
    source="He et al. 2023, arXiv 2311.16424, algorithm 1",
    needs=("adjoint",),
    exact="none",
    sampler=OWN,
)
class MPGD(Split):
    """Manifold preserving guidance: a gradient step of each prediction, without a backward pass of
    the network.

        D' = D - rate grad_D |y - A(D)|^2 / 2         loss="squared"
        D' = D - rate grad_D |y - A(D)|               loss="norm"
        x_t = alpha_t D' + sqrt(sigma_t^2 - c^2) eps' + c z,
        eps' = eps + share (alpha / sigma) (D - D')

    (He et al. 2023, arXiv 2311.16424, algorithm 1, without an autoencoder: share = 0; the family
    with a second gradient for the noise is that of Dreamguider, Nair et al. 2024, arXiv 2406.02549,
    whose equations are not published in full; share = 1 takes the noise of D'.) With
    ``loss="squared"`` the rate must be below ``2 / |A|^2``. The steps are a plan of its own; it is
    also a denoiser of D' that every sampler runs, with share = 1. Cost of a call: 1 network call, 1
    operator and 1 adjoint call.
    """

    at_start = True

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        rate: float = 1.0,
        loss: str = "squared",
        share: float = 0.0,
        eta: float = 1.0,
        noise: str = "posterior",
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Gaussian or Constraint; sigma_y is not used.
        rate: length of a step, > 0.
        loss: "squared" or "norm".
        share: part of the change that the noise knows, 0 to 1.
        eta: share of fresh noise, 0 to 1.
        noise: as in ``DDNM``.
        """
        self.rate, self.loss = (
            float(between("rate", rate, 0.0)),
            choice("loss", loss, ("squared", "norm")),
        )
        self.share = number("share", share, 0.0, 1.0)
        self.eta, self.noise = number("eta", eta, 0.0, 1.0), choice("noise", noise, NOISES)
        super().__init__(denoiser, likelihood)

    @override
    def spent(self) -> Counts:
        return Counts(1, 0, 1, 1)

    @override
    def readings(self, x0: Tensor, corrected: Tensor) -> tuple[Tensor, ...]:
        own = x0 if not self.share else x0 + self.share * (corrected - x0)
        return super().readings(own, corrected)

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        own = Measurement(self.likelihood, self.data(p.value), p.counts, p.graph)
        away = unit(own.residual) if self.loss == "norm" else own.residual
        return p.value + self.rate * own.adjoint(away)

    def plan(self, grid: Grid) -> Plan:
        """The steps on this grid."""
        return split_plan(grid, "mpgd", self.eta, self.noise)

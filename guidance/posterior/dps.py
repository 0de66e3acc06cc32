"""DPS as a denoiser."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, choice, number
from ...models.denoiser import Denoiser
from ..combinations.sample_sums import divided, inner_products
from .counts import Counts
from .measurement import Measurement
from .posterior import Levels, Posterior
from .prediction import Prediction
from .registry import register


@register(
    "dps",
    source="Chung et al. 2022, arXiv 2209.14687",
    needs=("gradients", "adjoint"),
    exact="none",
)
class DPS(Posterior):
    """Diffusion posterior sampling as a denoiser: the prediction moves along the gradient of the
    residual, of each sample by itself.

        D' = D - zeta r^2 alpha grad_x |y - A(D(x))|                          loss="norm"
        D' = D + zeta (sigma^2 / alpha) grad_x log p(y | x0 = D(x))            loss="score"
        r^2 = sigma^2 / (alpha^2 + sigma^2)

    (Chung et al. 2022, arXiv 2209.14687; the published form, a change of the state after each step
    whose strength depends on the number of steps, is ``DPSStep``.) With ``norm`` a step from s to t
    moves ``x / alpha`` by ``zeta r^2 (1 - rho_t / rho_s)`` times the gradient in ``x / alpha``: the
    strength of a run does not depend on the number of steps, is the same on every path, and fades
    towards the data, where a gradient of constant length would overshoot.
    ``score`` with zeta = 1 takes D for x0, which is stiff for little noise; it takes any law of the
    noise. Neither is exact for
    any prior. Cost of a call: 1 network call, 1 vector-Jacobian product, 1 operator and 1 adjoint
    call.
    """

    def __init__(
        self, denoiser: Denoiser, likelihood: Any, zeta: float = 1.0, loss: str = "norm"
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Gaussian; Poisson for ``loss="score"``; a Constraint for ``loss="norm"``, which
            does not use sigma_y.
        zeta: strength, at least 0; 0 is the model itself.
        loss: "norm" or "score".
        """
        self.zeta, self.loss = number("zeta", zeta, 0.0), choice("loss", loss, ("norm", "score"))
        self.any_noise = self.loss == "score"
        super().__init__(denoiser, likelihood)
        if self.any_noise and self.likelihood.gaussian and not self.likelihood.sigma_y:
            raise ArgumentError(
                'loss="score" divides by sigma_y^2, and a Constraint has none: use loss="norm", or '
                "the methods mmps and pigdm, which take exact constraints"
            )

    @override
    def spent(self) -> Counts:
        return Counts(1, 1, 1, 1)

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        own = Measurement(self.likelihood, self.data(p.value), p.counts, p.graph)
        if self.loss == "score":
            pull = own.adjoint(self.likelihood.slope(own.value))
            return p.value + self.zeta * at.factor * p.vjp(pull)
        return p.value + self.zeta * at.fading * at.alpha * p.vjp(own.adjoint(unit(own.residual)))


def unit(residual: Tensor) -> Tensor:
    """``r / |r|`` of each sample, 0 where r = 0: minus the gradient of |r| is its adjoint image."""
    (size,) = inner_products((residual, residual))
    return divided(residual, size.sqrt().to(residual))

"""MMPS: the likelihood with the covariance of the model itself."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import integer
from ...models.denoiser import Denoiser
from ..operators.conjugate_gradients import conjugate_gradients
from .counts import Counts
from .measurement import Measurement
from .posterior import Levels, Posterior
from .prediction import Prediction
from .registry import register


@register(
    "mmps",
    source="Rozet et al. 2024, arXiv 2405.13712, section 4.2",
    needs=("gradients", "adjoint"),
    exact="Gaussian priors (iterations >= number of measurements)",
)
class MMPS(Posterior):
    """Moment matching posterior sampling: the likelihood of the state is that of a Gaussian x0 with
    the mean and the covariance that the model has, ``Cov[x0 | x_t] = (sigma^2 / alpha) J``.

        (sigma_y^2 + A (sigma^2 / alpha) J A^T) v = y - A D
        D' = D + (sigma^2 / alpha) J^T A^T v,    J = dD / dx

    (Rozet et al. 2024, arXiv 2405.13712, section 4.2 and algorithm 3.) The system is solved by
    ``iterations`` steps of conjugate gradients. With as many steps as measurements and a Gaussian
    prior D' is the posterior mean ``E[x0 | x_t, y]`` exactly, for every path. An operator that is
    not linear is linearised at D. Cost of a call: 1 network call, and k + 1 vector-Jacobian
    products, operator and adjoint calls for k iterations.
    """

    def __init__(self, denoiser: Denoiser, likelihood: Any, iterations: int = 3) -> None:
        """``iterations``: steps of conjugate gradients, at least 1. A call raises GradientError for
        a model that cannot be differentiated."""
        self.iterations = integer("iterations", iterations, 1)
        super().__init__(denoiser, likelihood)

    @override
    def spent(self) -> Counts:
        return Counts(1, *(self.iterations + 1,) * 3)

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        own = Measurement(self.likelihood, self.data(p.value), p.counts, p.graph)
        variance = self.likelihood.sigma_y**2

        def product(v: Tensor) -> Tensor:
            image: Tensor = own.forward(at.factor * p.vjp(own.adjoint(v))) + variance * v
            return image

        v = conjugate_gradients(product, own.residual, self.iterations)
        return p.value + at.factor * p.vjp(own.adjoint(v))

"""Pi-GDM: the likelihood with an isotropic covariance."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import between, integer
from ...models.denoiser import Denoiser
from ..operators.conjugate_gradients import conjugate_gradients
from ..operators.operator import Operator
from .counts import Counts
from .measurement import Measurement
from .posterior import Levels, Posterior
from .prediction import Prediction
from .registry import register


@register(
    "pigdm",
    source="Song et al. 2023, ICLR, OpenReview 9_gsMA8MRKQ",
    needs=("gradients", "adjoint"),
    exact="N(0, std^2 I)",
)
class PiGDM(Posterior):
    """Pseudoinverse-guided diffusion: as MMPS with the covariance ``r^2 I`` of independent normal
    data in the place of the model's.

        D' = D + (sigma^2 / alpha) J^T A^T (r^2 A A^T + sigma_y^2)^-1 (y - A D)
        r^2 = s^2 sigma^2 / (alpha^2 s^2 + sigma^2)

    (Song, Vahdat, Mardani & Kautz, ICLR 2023, algorithm 1, as a denoiser, so that every sampler
    runs it; without noise the inverse is the pseudo-inverse.) Cost of a call: 1 network call, 1
    vector-Jacobian product, 1 operator and 1 adjoint call; operators without ``gram_solve`` need
    ``iterations`` more of the last two, for conjugate gradients.
    """

    def __init__(
        self, denoiser: Denoiser, likelihood: Any, std: float = 1.0, iterations: int = 10
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Gaussian or Constraint.
        std: s, the standard deviation of the data; the paper's is 1.
        iterations: of conjugate gradients, for operators without ``gram_solve``.
        """
        self.std = float(between("std", std, 0.0))
        self.iterations = integer("iterations", iterations, 1)
        super().__init__(denoiser, likelihood)

    @property
    def _closed(self) -> bool:
        operator: Operator = self.likelihood.operator
        return operator.linear and operator.solvable

    @override
    def spent(self) -> Counts:
        more = 0 if self._closed else self.iterations
        return Counts(1, 1, 1 + more, 1 + more)

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        own = Measurement(self.likelihood, self.data(p.value), p.counts, p.graph)
        noise, s2 = self.likelihood.sigma_y**2, self.std**2
        levels = zip(at.alphas, at.sigmas, strict=True)
        r2 = at.column([s2 * s * s / (a * a * s2 + s * s) for a, s in levels])
        if self._closed:
            shaped = r2.reshape(-1, *(1,) * (own.residual.ndim - 1))
            v = self.likelihood.operator.gram_solve(own.residual, shaped, noise)
        else:
            v = conjugate_gradients(
                lambda u: own.forward(r2 * own.adjoint(u)) + noise * u,
                own.residual,
                self.iterations,
            )
        return p.value + at.factor * p.vjp(own.adjoint(v))

"""DiffPIR: a proximal map of each prediction."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import between, integer, number
from ...models.denoiser import Denoiser
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ..operators.conjugate_gradients import conjugate_gradients
from . import demands
from .counts import Counts
from .measurement import Measurement
from .posterior import Levels, Posterior
from .prediction import Prediction
from .registry import OWN, register
from .split import split_plan


@register(
    "diffpir",
    source="Zhu et al. 2023, arXiv 2305.08995, algorithm 1",
    needs=("adjoint", "noise"),
    exact="none; Gaussian data nearly, with lam=1, small zeta and many steps",
    sampler=OWN,
)
class DiffPIR(Posterior):
    """Plug-and-play restoration: each prediction is moved to the measurement by a proximal map.

        D' = argmin_x |y - A x|^2 + rho |x - D|^2,   rho = lam sigma_y^2 alpha^2 / sigma^2
        x_t = alpha_t D' + sigma_t (sqrt(1 - zeta) eps' + sqrt(zeta) z),  eps' of D'

    (Zhu et al. 2023, arXiv 2305.08995, algorithm 1.) With lam = 1 D' is MMPS with the covariance
    ``(sigma / alpha)^2 I`` in the place of the model's. An operator that is not linear is
    linearised at D; the published step along the gradient, of length 1 / (2 rho), is not stable
    where rho is small. The steps are a plan of its own; it is also a denoiser of D' that every
    sampler runs. Cost of a call: 1 network call, 1 operator and 1 adjoint call; operators without
    ``gram_solve`` need ``iterations`` more of the last two, for conjugate gradients.
    """

    differentiates = False

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        lam: float = 7.0,
        zeta: float = 0.3,
        iterations: int = 10,
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Gaussian.
        lam: weight of the prediction, > 0; published values are 1 to 15.
        zeta: share of fresh noise in the variance, 0 to 1.
        iterations: of conjugate gradients, for operators without ``gram_solve``.
        """
        self.lam, self.zeta = float(between("lam", lam, 0.0)), number("zeta", zeta, 0.0, 1.0)
        self.iterations = integer("iterations", iterations, 1)
        super().__init__(denoiser, likelihood)

    @override
    def accepted(self, likelihood: Any) -> Any:
        made = super().accepted(likelihood)
        demands.noisy(made, type(self).__name__)
        return made

    @property
    def _closed(self) -> bool:
        return bool(self.likelihood.operator.linear and self.likelihood.operator.solvable)

    @override
    def spent(self) -> Counts:
        more = 0 if self._closed else self.iterations
        return Counts(1, 0, 1 + more, 1 + more)

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        own = Measurement(self.likelihood, self.data(p.value), p.counts, p.graph)
        noise = self.likelihood.sigma_y**2
        levels = zip(at.alphas, at.sigmas, strict=True)
        r2 = at.column([s * s / (self.lam * a * a) if a else 0.0 for a, s in levels])
        if self._closed:
            shaped = r2.reshape(-1, *(1,) * (own.residual.ndim - 1))
            v = self.likelihood.operator.gram_solve(own.residual, shaped, noise)
        else:
            v = conjugate_gradients(
                lambda u: own.forward(r2 * own.adjoint(u)) + noise * u,
                own.residual,
                self.iterations,
            )
        return p.value + r2 * own.adjoint(v)

    def plan(self, grid: Grid) -> Plan:
        """The steps on this grid."""
        return split_plan(grid, "diffpir", math.sqrt(self.zeta), "full", own="main")

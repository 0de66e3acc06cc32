"""DPS with smoothed gradients of the operator."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import number
from ...models.denoiser import Denoiser
from .black_box import BlackBox
from .counts import Counts
from .posterior import Levels
from .prediction import Prediction
from .registry import register


@register(
    "dps_gsg",
    source="Zheng et al. 2025, arXiv 2503.11043 (DPS-GSG); DPS of arXiv 2209.14687",
    needs=("gradients",),
    exact="none",
)
class DPSGSG(BlackBox):
    """DPS where the operator is a black box: the gradient by the prediction is estimated from
    values of the operator, and goes on through the network.

        D' = D - zeta r^2 alpha J^T g,   g ~ grad_D |y - A(D)|
        r^2 = sigma^2 / (alpha^2 + sigma^2)

    (Zheng et al. 2025, arXiv 2503.11043, DPS-GSG, in the form of ``DPS``.) g is the smoothed
    gradient of the square, divided by twice the norm: unbiased for linear operators. Cost of a
    call: 1 network call, 1 vector-Jacobian product, and 1 operator call and 1 (forward) or 2
    (central) for each 32 directions, of 32 rows for each sample.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        zeta: float = 1.0,
        directions: int = 128,
        mu: float = 0.01,
        form: str = "central",
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Gaussian or Constraint, with any operator; sigma_y is not used.
        zeta: strength, at least 0, as of ``DPS``.
        directions, mu, form: of ``guidance.Smoothing``.
        """
        self.zeta = number("zeta", zeta, 0.0)
        super().__init__(denoiser, likelihood, directions, mu, form)

    @override
    def spent(self) -> Counts:
        return Counts(1, 1, self.values, 0)

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        square, slope = self.slope(p.value, at, p.counts)
        size = square.sqrt().reshape(-1, *(1,) * (slope.ndim - 1)).to(slope)
        g = 0.5 * slope / size.clamp_min(1e-30)
        return p.value - self.zeta * at.fading * at.alpha * p.vjp(g)

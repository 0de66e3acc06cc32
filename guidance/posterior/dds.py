"""DDS: conjugate gradients on each prediction."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import between, choice, integer, number
from ...models.denoiser import Denoiser
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ..operators.conjugate_gradients import conjugate_gradients
from . import demands
from .counts import Counts
from .measurement import Measurement
from .posterior import Levels
from .prediction import Prediction
from .registry import OWN, register
from .split import NOISES, Split, split_plan


@register(
    "dds",
    source="Chung et al. 2023, arXiv 2303.05754",
    needs=("adjoint", "linear"),
    exact="none",
    sampler=OWN,
)
class DDS(Split):
    """Decomposed diffusion sampling: a few steps of conjugate gradients from each prediction.

        D' = argmin_x gamma |y - A x|^2 + |x - D|^2, by k steps from D;  without gamma |y - A x|^2
        x_t = alpha_t D' + sqrt(sigma_t^2 - c^2) eps + c z,   eps of D, not of D'

    (Chung, Lee & Ye 2023, arXiv 2303.05754.) Without gamma the steps stay in the Krylov space
    through D: with as many as the rank of A it is DDNM, and few of them stop before they fit the
    noise. The steps are a plan of its own; it is also a denoiser of D' that every sampler runs,
    with the noise of D' then. Cost of a call: 1 network call, k + 1 operator and k + 1 adjoint
    calls.
    """

    at_start = True

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        iterations: int = 5,
        gamma: float | None = None,
        eta: float = 0.85,
        noise: str = "posterior",
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Gaussian or Constraint with a linear operator; sigma_y is not used.
        iterations: k, at least 1.
        gamma: weight of the measurement, > 0; None: the measurement alone.
        eta: share of fresh noise, 0 to 1.
        noise: as in ``DDNM``.
        """
        self.iterations = integer("iterations", iterations, 1)
        self.gamma = None if gamma is None else float(between("gamma", gamma, 0.0))
        self.eta, self.noise = number("eta", eta, 0.0, 1.0), choice("noise", noise, NOISES)
        super().__init__(denoiser, likelihood)

    @override
    def accepted(self, likelihood: Any) -> Any:
        made = super().accepted(likelihood)
        demands.linear(made, type(self).__name__)
        return made

    @override
    def spent(self) -> Counts:
        return Counts(1, 0, *(self.iterations + 1,) * 2)

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        own = Measurement(self.likelihood, self.data(p.value), p.counts, p.graph)

        def product(u: Tensor) -> Tensor:
            back = own.adjoint(own.forward(u))
            return back if self.gamma is None else self.gamma * back + u

        right = own.adjoint(own.residual)
        right = right if self.gamma is None else self.gamma * right
        return p.value + conjugate_gradients(product, right, self.iterations)

    def plan(self, grid: Grid) -> Plan:
        """The steps on this grid."""
        return split_plan(grid, "dds", self.eta, self.noise)

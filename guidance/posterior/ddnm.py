"""DDNM: the range of the operator from the measurement, its null space from the model."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import choice, integer, number
from ...models.denoiser import Denoiser
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from . import demands
from .counts import Counts
from .posterior import Levels
from .prediction import Prediction
from .registry import OWN, register
from .split import NOISES, Split, split_plan


@register(
    "ddnm",
    source="Wang et al. 2022, arXiv 2212.00490, algorithm 1",
    needs=("pinverse", "noiseless", "linear"),
    exact="none",
    sampler=OWN,
)
class DDNM(Split):
    """Denoising diffusion null-space model: what is measured comes from the measurement, the rest
    from the model.

        D' = D - A^+ (A D - y)
        x_t = alpha_t D' + sigma_t (eta z + sqrt(1 - eta^2) eps(x_s)),   eps of D, not of D'

    (Wang, Yu & Zhang 2022, arXiv 2212.00490, algorithm 1.) The samples have the measurement
    exactly. The published noise keeps the share eta of each step fresh and leaves the spread too
    small for any number of steps; ``noise="posterior"`` takes the share of DDPM. The steps are a
    plan of its own; it is also a denoiser of D' that every sampler runs, with the noise of D' then.
    Cost of a call: 1 network call, 1 operator call and 1 of the pseudo-inverse; ``length`` and
    ``repeats`` are those of ``RePaint``, and multiply the calls as there.
    """

    at_start = True

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        eta: float = 0.85,
        noise: str = "full",
        length: int = 1,
        repeats: int = 1,
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Constraint with a linear operator that has a pseudo-inverse.
        eta: share of fresh noise, 0 to 1.
        noise: "full", ``c = eta sigma_t``, or "posterior",
            ``c = eta sigma_t sqrt(1 - rho_t^2 / rho_s^2)``.
        length, repeats: time travel, as in ``RePaint``; from the last prediction.
        """
        self.eta, self.noise = number("eta", eta, 0.0, 1.0), choice("noise", noise, NOISES)
        self.length, self.repeats = integer("length", length, 1), integer("repeats", repeats, 1)
        super().__init__(denoiser, likelihood)

    @override
    def accepted(self, likelihood: Any) -> Any:
        made = super().accepted(likelihood)
        demands.exact(made, type(self).__name__)
        demands.invertible(made, type(self).__name__)
        return made

    @override
    def spent(self) -> Counts:
        return Counts(1, 0, 1, 1)

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        p.counts.operator += 1
        p.counts.adjoint += 1
        lost = self.likelihood.residual(self.data(p.value))
        back: Tensor = self.likelihood.operator.pinverse(lost)
        return p.value + back.reshape(p.value.shape)

    def plan(self, grid: Grid) -> Plan:
        """The steps on this grid."""
        return split_plan(grid, "ddnm", self.eta, self.noise, self.length, self.repeats)

"""MCG: manifold-constrained gradients."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import choice, number
from ...models.denoiser import Denoiser
from ...plans.running.step_state import StepState
from . import demands
from .counts import Counts
from .dps import unit
from .measurement import Measurement
from .pulling import Pulling
from .registry import register
from .stepping import wide


@register(
    "mcg",
    source="Chung et al. 2022, arXiv 2206.00941, equations 14 and 15",
    form="step",
    needs=("gradients", "adjoint", "pinverse", "noiseless", "linear"),
    exact="none",
    sampler="ddim",
    options={"eta": 1.0},
)
class MCG(Pulling):
    """Manifold-constrained gradients: after each step from t to s a push along the gradient of the
    residual, and the measured part replaced by that of the noised measurement.

        x' = STEP(x_t, D) - zeta grad_{x_t} |W (y - A D(x_t))|
        x_s = x' + A^+ (alpha_s y + sigma_s A xi - A x'),    xi ~ N(0, I) anew in each step

    (Chung, Sim, Ryu & Ye 2022, arXiv 2206.00941, equations 14 and 15; the measured part of the
    gradient is lost in the replacement.) W is the identity, or A^+ as for tomography. The norm is
    of each sample by itself. zeta = 0 is ``ScoreSDE``; the paper's .1 to 1 belong to 1000 steps. On
    Gaussian data the push narrows the samples: they have less variance than the posterior, the less
    the larger zeta. The samples have the measurement exactly. Samplers with one call a step; cost
    of a step: 1 network call, 1 vector-Jacobian product, 2 operator calls, 2 of the adjoint and
    the pseudo-inverse.
    """

    def __init__(
        self, denoiser: Denoiser, likelihood: Any, zeta: float = 0.1, weight: str = "identity"
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Constraint with an operator that has a pseudo-inverse.
        zeta: length of a push, in units of the norm's gradient, at least 0.
        weight: W, "identity" or "pinverse".
        """
        self.zeta = number("zeta", zeta, 0.0)
        self.weight = choice("weight", weight, ("identity", "pinverse"))
        super().__init__(denoiser, likelihood)
        self.differentiates = self.zeta > 0.0

    @override
    def accepted(self, likelihood: Any) -> Any:
        made = super().accepted(likelihood)
        demands.exact(made, type(self).__name__)
        demands.invertible(made, type(self).__name__)
        return made

    @override
    def cost(self, t: float) -> Counts:
        push = self.zeta > 0.0 and self.schedule.node(t).alpha > 0.0
        return Counts(1, 1, 2, 2) if push else Counts(1, 0, 1, 1)

    @override
    def moved(self, step: StepState) -> Tensor:
        x, node, p = wide(step.x_next), step.next_node, self.pulled()
        if p is not None and self.zeta:
            own = Measurement(self.likelihood, self.data(p.value), self.counts, p.graph)
            if self.weight == "identity":
                pull = own.adjoint(unit(own.residual))
            else:  # A^T (A^+)^T is a projection, and A^+ r is in its range
                pull = unit(self.pinverse(own.residual, x))
            x = x + self.zeta * p.vjp(pull).to(x)
        held = x - node.sigma * self.drawn(step) if node.sigma else x
        return x + self.pinverse(self.measured(held, node), x)

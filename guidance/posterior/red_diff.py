"""RED-diff: optimisation, with the model as a regulariser."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, between, choice, number
from ...models.denoiser import Denoiser
from ...plans.plan import Plan
from ...plans.running.step_state import StepState
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from .adam import Adam
from .counts import Counts
from .measurement import Measurement
from .registry import OWN, register
from .stepping import Stepping, bare_plan, wide

#: w(rho): weight of the model's term
WEIGHTS = ("linear", "sqrt", "square", "const")
#: of Adam
BETAS = (0.9, 0.99)


@register(
    "red_diff",
    source="Mardani et al. 2023, arXiv 2305.04391, algorithm 1",
    form="plan",
    needs=("adjoint",),
    exact="none: an estimate, without spread",
    sampler=OWN,
)
class REDDiff(Stepping):
    """Regularisation by denoising: an estimate mu is optimised, one step of Adam at each level,
    from noise to data.

        x_t = alpha mu + sigma eps,   eps ~ N(0, I) anew
        gradient = -A^T (y - A mu) / m + w (eps(x_t) - eps) / d,   w = weight sigma / alpha

    for m measurements and d elements (Mardani et al. 2023, arXiv 2305.04391, algorithm 1, with the
    means over elements of the authors' code; weighting "linear"). The result is an estimate with
    little spread: no samples of the posterior. The pull of the model fades with sigma, so that what
    is measured ends at least squares, noise included. "sqrt", "square", "const": w = weight times
    the root or the square of sigma / alpha, or 1. An operator that is not linear is linearised at
    mu. A plan of its own, one call a step; cost of a step: 1 network call, 1 operator and 1 adjoint
    call; the start has 1 adjoint call, for the pseudo-inverse if there is one, or ``A^T``.
    """

    per_step = Counts(0, 0, 1, 1)
    own_start = True

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        weight: float = 0.25,
        rate: float = 0.1,
        weighting: str = "linear",
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Gaussian or Constraint; sigma_y is not used.
        weight: of the model's term, at least 0.
        rate: step size of Adam, > 0, in the units of the data.
        weighting: "linear", "sqrt", "square" or "const".
        """
        self.weight, self.rate = number("weight", weight, 0.0), float(between("rate", rate, 0.0))
        self.weighting = choice("weighting", weighting, WEIGHTS)
        super().__init__(denoiser, likelihood)

    def plan(self, grid: Grid) -> Plan:
        """One call at each node but the last."""
        return bare_plan(grid, "red_diff")

    @override
    def planned(self, plan: Plan) -> Counts:
        return super().planned(plan) + Counts(0, 0, 0, 1)

    @override
    def started(self, x: Tensor, node: Node) -> Tensor:
        eps, operator = wide(x) / node.sigma, self.likelihood.operator
        zero = torch.zeros_like(eps)
        self.counts.adjoint += 1
        value = operator(zero)
        y = self.likelihood.data(value).expand_as(value)
        if operator.invertible:
            mu = operator.pinverse(y)
        else:
            mu = operator.linearise(zero).adjoint(y)
        mu = mu.reshape(eps.shape) - self.data(zero)
        self._run.kept = {"mu": mu, "eps": eps, "adam": Adam.like(eps)}
        first: Tensor = (node.alpha * mu + node.sigma * eps).to(x.dtype)
        return first

    @override
    def moved(self, step: StepState) -> Tensor:
        kept, t = self._run.kept, step.next_node
        if "mu" not in kept:
            raise ArgumentError("REDDiff begins at a state of its own: use guidance.solve")
        change, kept["adam"] = kept["adam"].step(self._gradient(step), self.rate, BETAS)
        mu: Tensor = kept["mu"] - change
        kept["mu"] = mu
        if not t.sigma:
            return mu
        kept["eps"] = eps = self.drawn(step)
        return t.alpha * mu + t.sigma * eps

    def _gradient(self, step: StepState) -> Tensor:
        """The gradient at mu."""
        kept, s = self._run.kept, step.node
        mu = kept["mu"]
        own = Measurement(self.likelihood, self.data(mu), self.counts, graph=False)
        data = -own.adjoint(own.residual) / own.residual[0].numel()
        if not s.alpha:  # eps(x_t) is the noise itself
            return data
        shapes = {
            "linear": s.rho,
            "sqrt": math.sqrt(s.rho),
            "square": s.rho**2,
            "const": 1.0,
        }
        w = shapes[self.weighting] * self.weight / mu[0].numel()
        eps = (wide(step.x) - s.alpha * wide(step.outputs["x0"])) / s.sigma
        found: Tensor = data + w * (eps - kept["eps"])
        return found

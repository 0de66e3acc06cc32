"""Guidance by residuals of equations, as a denoiser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError, choice, number
from ...models.base import MAIN, RunFacts
from ...models.denoiser import Condition, Denoiser, Time
from ...plans.plan import Plan
from .counts import Counts
from .losses import Losses
from .posterior import Levels, Posterior
from .prediction import Prediction
from .registry import register


@register(
    "residual",
    source="Huang et al. 2024, arXiv 2406.17763, as a denoiser",
    needs=("losses",),
    exact="none",
)
class Residual(Posterior):
    """Guidance by a list of losses: measurements and residuals of any equation.

        D' = D - r^2 alpha grad_x sum_k w_k |r_k(D(x))|   wrt="x_t": through the network
        D' = D - r^2 grad_D sum_k w_k |r_k(D)|            wrt="D": no vector-Jacobian product
        r^2 = sigma^2 / (alpha^2 + sigma^2)

    (The losses of DiffusionPDE, Huang et al. 2024, arXiv 2406.17763, in a form that every sampler
    runs and whose strength does not depend on the number of steps, see ``DPS``; ``wrt="D"`` is the
    simplification of MPGD, arXiv 2311.16424.) A linear equation ``L x0 = f`` as a loss is DPS with
    A = L, y = f. Cost of a call: 1 network call, 1 vector-Jacobian product with ``wrt="x_t"``, and
    for each loss whose weight is not 0 one call (forward and backward) of its residual.
    """

    def __init__(
        self, denoiser: Denoiser, likelihood: Any, wrt: str = "x_t", switch: float = 0.8
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: a ``Loss``, a likelihood, or a sequence of them.
        wrt: "x_t" or "D".
        switch: share of the steps after which ``late`` of a Loss counts instead of ``early``;
            losses with both equal need no steps.
        """
        self.wrt = choice("wrt", wrt, ("x_t", "D"))
        self.switch = number("switch", switch, 0.0, 1.0)
        super().__init__(denoiser, likelihood)
        self.differentiates = self.wrt == "x_t"
        self.joinable = self.denoiser.joinable and not self.likelihood.switches
        self._steps: tuple[int, ...] | None = None
        self._calls = 0

    @override
    def accepted(self, likelihood: Any) -> Losses:
        return Losses(likelihood)

    @override
    def for_run(self, facts: RunFacts) -> Self:
        """A copy that counts the steps, if a loss needs them. Raises ArgumentError for a run that
        does not know them beforehand (drivers)."""
        made = super().for_run(facts)
        if not self.likelihood.switches:
            return made
        if facts.steps is None or facts.inverse:
            raise ArgumentError(
                "losses that change at the switch need to know the step of each network call: use "
                "a sampler with a plan, from noise to data, or give early and late the same value"
            )
        made = made.counted() if made is self else made
        made.counts = self.counts
        made._steps, made._calls = facts.steps, 0
        return made

    def _late(self) -> bool:
        """Whether the current call is after the switch."""
        if self._steps is None:
            return False
        return is_late(self._steps[self._calls - 1], self._steps[-1] + 1, self.switch)

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        self._calls += self._steps is not None
        return super().raws(x_in, t, cond, channels, to)

    @override
    def cost(self, t: float, late: bool = False) -> Counts:
        node = self.schedule.node(t)
        if node.alpha == 0.0:
            return Counts(1)
        own: Counts = self.likelihood.spent(node.rho, late)
        return Counts(1, int(self.differentiates and own.operator > 0)) + own

    @override
    def planned(self, plan: Plan) -> Counts:
        total = Counts()
        for call, step in zip(plan.evaluations, plan.call_steps, strict=True):
            late = is_late(step, plan.call_steps[-1] + 1, self.switch)
            total += self.cost(float(call.node.t or 0.0), late)
        return total

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        rhos = [s / a if a else math.inf for a, s in zip(at.alphas, at.sigmas, strict=True)]
        with torch.enable_grad():
            d = self.data(p.value)
            leaf = d if p.graph and d.requires_grad else d.detach().requires_grad_(True)
            total = self.likelihood.total(leaf, rhos, self._late(), p.counts)
            if total is None:
                return p.value
            if not total.requires_grad:
                raise ArgumentError("the losses do not depend on the prediction differentiably")
            (slope,) = torch.autograd.grad(total.sum(), leaf, create_graph=p.graph)
        return p.value - at.fading * (at.alpha * p.vjp(slope) if self.differentiates else slope)


def is_late(step: int, steps: int, switch: float) -> bool:
    """Whether step ``step`` of ``steps``, from 0, is after the switch: ``step > switch steps``."""
    return step > switch * steps

"""DPS as published, a change of the state after each step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError, number
from ...models.denoiser import Denoiser
from ...plans.running.step_state import StepState
from .counts import Counts
from .dps import unit
from .measurement import Measurement
from .posterior import Levels, Posterior
from .prediction import Prediction
from .registry import register


@register(
    "dps_step",
    source="Chung et al. 2022, arXiv 2209.14687, algorithm 1",
    form="step",
    needs=("gradients", "adjoint"),
    exact="none",
    sampler="ddim",
    options={"eta": 1.0},
)
class DPSStep(Posterior):
    """Diffusion posterior sampling as published: after each step from t to s

        x_s = STEP(x_t, D) - zeta grad_{x_t} |y - A(D(x_t))|,

    with the norm of each sample by itself (Chung et al. 2022, arXiv 2209.14687, algorithm 1; the
    norm of a whole batch in public code makes the samples depend on each other). N steps push N
    times: zeta belongs to one number of steps; the paper's .3 to 1 are for 1000. It is a denoiser
    that predicts D, and its ``on_step`` changes the states:

        method = DPSStep(den, likelihood, zeta=0.5)
        x = fewstep.sample(method, "ddim", steps=1000, eta=1.0, callback=method.on_step)

    or ``solve(..., method="dps_step")``. For samplers with one call a step. Cost of a step: 1
    network call, 1 vector-Jacobian product, 1 operator and 1 adjoint call.
    """

    def __init__(self, denoiser: Denoiser, likelihood: Any, zeta: float = 1.0) -> None:
        """``zeta``: length of a push, in units of the norm's gradient, at least 0."""
        self.zeta = number("zeta", zeta, 0.0)
        super().__init__(denoiser, likelihood)
        self._slopes: list[Tensor | None] = [None]

    @override
    def spent(self) -> Counts:
        return Counts(1, 1, 1, 1)

    @override
    def counted(self) -> Self:
        made = super().counted()
        made._slopes = [None]
        return made

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        own = Measurement(self.likelihood, self.data(p.value), p.counts, p.graph)
        self._slopes[0] = p.vjp(own.adjoint(unit(own.residual))).detach()
        return p.value

    def on_step(self, step: StepState) -> Tensor | None:
        """The state after a step of a run of this denoiser. Raises ArgumentError for a step without
        a call of this denoiser."""
        if step.node.alpha == 0.0:
            return None
        pull = self._slopes[0]
        if pull is None or pull.shape != step.x_next.shape:
            raise ArgumentError(
                "on_step belongs to a run of this very DPSStep: give both to fewstep.sample"
            )
        self._slopes[0] = None
        with torch.no_grad():
            return step.x_next + (self.zeta * pull).to(step.x_next)

"""SITCOM: the state is optimised before each prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import between, integer, number
from ...models.base import MAIN
from ...models.denoiser import Condition, Denoiser, Time, host_times
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from .adam import Adam
from .counts import Counts
from .measurement import Measurement
from .posterior import Levels, Posterior
from .prediction import plain, predicted
from .registry import OWN, register
from .split import split_plan

BETAS = (0.9, 0.999)


@register(
    "sitcom",
    source="Alkhouri et al. 2024, arXiv 2410.04479, algorithm 1",
    needs=("gradients", "adjoint"),
    exact="none",
    sampler=OWN,
)
class SITCOM(Posterior):
    """Step-wise triple-consistent sampling: near each state the one is sought whose prediction fits
    the measurement.

        v = argmin |y - A(D(v))|^2 + lam |x - v|^2,   k steps of Adam from v = x
        D' = D(v),   x_t = alpha_t D' + sigma_t z

    (Alkhouri et al. 2024, arXiv 2410.04479, algorithm 1.) The search of a sample stops where
    ``|y - A(D)| <= stop sigma_y sqrt(m)`` for m measurements, so as not to fit the noise; D' is the
    prediction after the last step, where public code has that before it. It differentiates the
    network. The steps are a plan of its own; it is also a denoiser of D' that every sampler runs.
    Cost of a call: k + 1 network calls, k vector-Jacobian products, k operator and k adjoint calls,
    whether samples have stopped or not.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        iterations: int = 20,
        rate: float = 0.01,
        lam: float = 0.0,
        stop: float = 1.0,
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Gaussian or Constraint.
        iterations: k, at least 1.
        rate: step size of Adam, > 0, in the units of the state.
        lam: weight of the distance to the state, at least 0.
        stop: of the search, in units of the noise's own size, at least 0.
        """
        self.iterations, self.rate = (
            integer("iterations", iterations, 1),
            float(between("rate", rate, 0.0)),
        )
        self.lam, self.stop = number("lam", lam, 0.0), number("stop", stop, 0.0)
        super().__init__(denoiser, likelihood)

    @override
    def spent(self) -> Counts:
        k = self.iterations
        return Counts(k + 1, k, k, k)

    def plan(self, grid: Grid) -> Plan:
        """The steps on this grid."""
        return split_plan(grid, "sitcom", 1.0, "full", own="main")

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        if Levels.of(self, host_times(t, x_in.shape[0]), x_in).start:
            return super().raws(x_in, t, cond, channels, to)
        if self.denoiser.shape is None:
            self.samples(x_in.shape[1:])
        v, adam = x_in, Adam.like(x_in)
        for _ in range(self.iterations):
            p = predicted(self.denoiser, v, t, cond, self.counts, type(self).__name__)
            own = Measurement(self.likelihood, self.data(p.value), p.counts, p.graph)
            slope = -2.0 * p.vjp(own.adjoint(own.residual)) + 2.0 * self.lam * (v - x_in)
            change, adam = adam.step(slope.to(v), self.rate, BETAS)
            v = torch.where(self._searches(own.residual, v), v - change, v)
        return (plain(self.denoiser, v, t, cond, self.counts).to(x_in.dtype),)

    def _searches(self, residual: Tensor, like: Tensor) -> Tensor:
        """Whether each sample is not near enough yet, (B, 1, ..., 1)."""
        seen = self.likelihood.operator.zero_filled(torch.ones_like(residual))
        allowed = (self.stop * self.likelihood.sigma_y) ** 2 * seen.flatten(1).sum(1)
        away: Tensor = residual.square().flatten(1).sum(1) > allowed
        return away.reshape(-1, *(1,) * (like.ndim - 1))

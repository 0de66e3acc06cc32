"""Steps in the coordinates of the singular value decomposition of the operator."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import number
from ...models.denoiser import Denoiser
from ...plans.plan import Plan
from ...plans.running.step_state import StepState
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from . import demands
from .counts import Counts
from .stepping import Stepping, bare_plan, wide


class Spectral(Stepping):
    """A step from s to t, with ``A = U diag(S) V^T``, ``yb = U^T y / S``, rho = sigma / alpha at t,
    and the coordinates ``D = V^T D``, ``xi``, ``eps`` of a noise and of the model's:

        x_t / alpha_t = D + sqrt(1 - eta^2) rho eps + eta rho xi                            S = 0
                        D + sqrt(1 - eta^2) rho (yb - D) S / sigma_y + eta rho xi  S rho < sigma_y
                        (1 - w) D + w yb + sqrt(rho^2 - (w sigma_y / S)^2) xi              the rest
    """

    #: w
    weight = 1.0
    per_step = Counts(0, 0, 3, 2)

    def __init__(self, denoiser: Denoiser, likelihood: Any, eta: float = 0.85) -> None:
        self.eta = number("eta", eta, 0.0, 1.0)
        super().__init__(denoiser, likelihood)

    @override
    def accepted(self, likelihood: Any) -> Any:
        made = super().accepted(likelihood)
        demands.spectral(made, type(self).__name__)
        return made

    def plan(self, grid: Grid) -> Plan:
        """One call at each node but the last; the states are replaced."""
        return bare_plan(grid, type(self).__name__.lower())

    @override
    def moved(self, step: StepState) -> Tensor:
        s, t = step.node, step.next_node
        x, d = wide(step.x), wide(step.outputs["x0"])
        xi = self.drawn(step) if t.sigma else torch.zeros_like(x)
        kept = math.sqrt((1.0 - self.eta) * (1.0 + self.eta))
        eps = (x - s.alpha * d) / s.sigma
        free = t.alpha * d + t.sigma * (kept * eps + self.eta * xi)
        self.counts.operator += 3
        self.counts.adjoint += 2
        svd = self.likelihood.operator.svd
        at, noise, now = svd.Vt(d), svd.Vt(xi), svd.Vt(free)
        values, yb = self.coordinates(at, d)
        new = t.alpha * self.step_of(at, yb, values, noise, t, kept)
        change = torch.where(values > 0.0, new - now, 0.0)
        found: Tensor = free + svd.V(change).reshape(free.shape)
        return found

    def coordinates(self, c: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """S, which broadcasts against coordinates c, and yb, 0 where S = 0."""
        operator = self.likelihood.operator
        zero = torch.zeros_like(like) if self.offset is None else self.offset.to(like)
        value = operator(zero.expand_as(like))
        y = self.likelihood.data(value).expand_as(value)
        values = operator.svd.kept(c)
        seen = values > 0.0
        ratio = operator.svd.Ut(y - value if self.offset is not None else y)
        return values, torch.where(seen, ratio / torch.where(seen, values, 1.0), 0.0)

    def step_of(
        self, d: Tensor, yb: Tensor, values: Tensor, xi: Tensor, t: Node, kept: float
    ) -> Tensor:
        """Coordinates of the new ``x_t / alpha_t`` where S > 0."""
        rho, noise, w = t.rho, self.likelihood.sigma_y, self.weight
        far = values * rho < noise
        if not noise:
            return (1.0 - w) * d + w * yb + rho * xi
        level = noise / torch.where(values > 0.0, values, 1.0)
        low = d + kept * rho * (yb - d) / level + self.eta * rho * xi
        rest = (rho * rho - (w * level).square()).clamp_min(0.0).sqrt()
        return torch.where(far, low, (1.0 - w) * d + w * yb + rest * xi)

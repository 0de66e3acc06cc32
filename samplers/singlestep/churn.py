"""Churn: adds noise before each step so that the marginal is kept (Karras et al. 2022, arXiv
2206.00364, Alg. 2).

In ``y = x / alpha`` a state at rho is noised up to ``rho_hat = (1 + gamma) rho``,

    y_hat = y + sqrt(rho_hat^2 - rho^2) s_noise z,
    gamma = min(s_churn / N, sqrt(2) - 1)    if s_tmin <= rho <= s_tmax, else 0

with N the number of steps of the whole grid. The step then starts at the schedule's node at
rho_hat. The added noise gives the exact marginal there, so the order of the method is that of its
steps. The limits are in rho (sigma of EDM and k-diffusion) on every path.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ...checks import number
from ...plans.builder import Expression, PlanBuilder
from ...schedules.grids.construction import Grid
from ...schedules.node import Node

#: largest gamma; the noise variance then doubles
MOST = math.sqrt(2.0) - 1.0

Lift = Callable[[Expression, Node], tuple[Expression, Node]]


@dataclass(frozen=True)
class Churn:
    """Options of churn.

    ``s_churn``: amount of noise added over the whole run, 0 for none; ``s_tmin``, ``s_tmax``: range
    of sigma/alpha in which it is added (None: no upper limit); ``s_noise``: factor on the noise (1
    keeps the marginal).
    """

    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float | None = None
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        number("s_churn", self.s_churn, 0.0, 1e6)
        number("s_tmin", self.s_tmin, 0.0, 1e9)
        number("s_noise", self.s_noise, 0.0, 10.0)
        if self.s_tmax == math.inf:
            object.__setattr__(self, "s_tmax", None)
        if self.s_tmax is not None:
            number("s_tmax", self.s_tmax, self.s_tmin, 1e9)


def stochastic(options: Churn) -> float:
    """``tau`` for the registry: 1.0 if the options add noise, else 0.0.

    Only zero or nonzero matters. The noise comes in jumps, and the steps between them solve the
    ODE; on grids uniform in lam the limit is an SDE with ``tau^2 = s_churn / (N h)``, on others its
    strength depends on the grid.
    """
    return 1.0 if options.s_churn else 0.0


def lift(
    b: PlanBuilder, x: Expression, s: Node, up: Node, z: Expression, scale: float = 1.0
) -> Expression:
    """Add noise to the state ``x`` at s to reach the noisier node ``up``.

    ``x_up = (alpha_up / alpha_s) x + sqrt(sigma_up^2 - (alpha_up sigma_s / alpha_s)^2) z``.
    """
    fade = up.alpha / s.alpha
    fresh = math.sqrt(max((up.sigma - fade * s.sigma) * (up.sigma + fade * s.sigma), 0.0))
    return b.at(up, fade * x + (fresh * scale) * z)


def lifter(b: PlanBuilder, grid: Grid, options: Churn) -> Lift:
    """Return the function that adds noise before each step.

    It draws one z per step even if the step does not use it, as other toolkits do, so that draw i
    belongs to step i. ``rho_hat`` is limited to the schedule's highest noise level, because the
    network must not be evaluated outside the path (a wider ``EDM(sigma_max=...)`` raises the
    limit).
    """
    schedule = grid.schedule
    gamma = min(options.s_churn / (len(b.nodes) - 1), MOST)
    high = math.inf if options.s_tmax is None else options.s_tmax
    top = schedule.node(schedule.t_max)

    def jump(x: Expression, s: Node) -> tuple[Expression, Node]:
        if gamma == 0.0:
            return x, s
        rho = (1.0 + gamma) * s.rho
        up = grid.at_rho(rho) if rho < top.rho else top
        z = b.noise(s, up)
        if not (options.s_tmin <= s.rho <= high and up.rho > s.rho):
            return x, s
        return lift(b, x, s, up, z, options.s_noise), up

    return jump

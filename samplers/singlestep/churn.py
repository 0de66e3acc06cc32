"""Churn: a jump to more noise before each step, which keeps the marginal (Karras et al. 2022, arXiv
2206.00364, Alg. 2).

In ``y = x / alpha`` a state at rho gets fresh noise up to ``rho_hat = (1 + gamma) rho``,

    y_hat = y + sqrt(rho_hat^2 - rho^2) s_noise z,      gamma = min(s_churn / N, sqrt(2) - 1)  where
                                                        s_tmin <= rho <= s_tmax,

with N the steps of the whole grid, and the step then begins at the schedule's own node at rho_hat.
The jump is exact in law, so the order of the method is that of its steps. The limits are in rho
(sigma of EDM and k-diffusion) on every path.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ...checks import number
from ...plans.builder import Expression, PlanBuilder
from ...schedules.grids.construction import Grid
from ...schedules.node import Node

#: the largest gamma: the variance at most doubles
MOST = math.sqrt(2.0) - 1.0

Lift = Callable[[Expression, Node], tuple[Expression, Node]]


@dataclass(frozen=True)
class Churn:
    """``s_churn``: how much noise is put in anew over the whole run, 0 none; ``s_tmin``,
    ``s_tmax``: the range of sigma/alpha where (None: no upper limit); ``s_noise`` scales it (1
    keeps the marginal)."""

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
    """``tau`` of the registry. Noise comes in jumps, so between them kappa is 1; on uniform lam the
    SDE that is neared has ``tau^2 = s_churn / (N h)``, elsewhere its strength follows the grid, and
    this is only not 0."""
    return 1.0 if options.s_churn else 0.0


def lift(
    b: PlanBuilder, x: Expression, s: Node, up: Node, z: Expression, scale: float = 1.0
) -> Expression:
    """The state at ``up``, noisier than s: ``x_up = (alpha_up / alpha_s) x + sqrt(sigma_up^2 -
    (alpha_up sigma_s / alpha_s)^2) z``."""
    fade = up.alpha / s.alpha
    fresh = math.sqrt(max((up.sigma - fade * s.sigma) * (up.sigma + fade * s.sigma), 0.0))
    return b.at(up, fade * x + (fresh * scale) * z)


def lifter(b: PlanBuilder, grid: Grid, options: Churn) -> Lift:
    """The jump before each step. One z a step is drawn whether it is used or not, as in the peers,
    so that draw i belongs to step i.

    ``rho_hat`` stops at the schedule's noisiest level: nothing is evaluated outside of the path (a
    wider ``EDM(sigma_max=...)`` allows it).
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

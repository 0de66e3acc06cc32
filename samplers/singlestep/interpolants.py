"""Stochastic interpolants: the ODE of a path in its own time, and SDEs with any diffusion w(t)
(Albergo et al. 2023, arXiv 2303.08797).

With u = dx/dt of the path and the score s = -eps / sigma, all w(t) >= 0 have the same marginals
(eq. 2.34 there, backward in time):

    dx = (u - w s) dt + sqrt(2 w) dW,   dt < 0

w = 0 is the ODE, and ``w = tau^2 sigma^2 |dlam/dt|`` is the SDE of strength tau. Steps from s to t
with h = |t - s| and drift b = u - w s are (Ma et al. 2024, arXiv 2401.08740, and its code):

    em      x_t = x - h b(x, s) + sqrt(2 w h) z
    heun    x_hat = x + sqrt(2 w h) z
            x_t = x_hat - h/2 (b(x_hat, s) + b(x_hat - h b(x_hat, s), t))

Both have weak order 1, because heun adds all noise at the start of the step. Neither keeps the
marginal exactly for h > 0. A step to sigma = 0 adds no noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ...checks import choice, number
from ...plans.builder import Expression, PlanBuilder
from ...plans.instructions import PlanError
from ...plans.plan import Plan
from ...schedules.base import Schedule
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..registry import register
from .frames import TimeFrame, finite_time
from .runge_kutta import rk_step
from .tableau import TABLEAUS

#: shape -> w in units of 1 / t_max, a function of the option ``scale`` c, of r = t / t_max and of
#: sigma
SHAPES: dict[str, Callable[[float, float, float], float]] = {
    "constant": lambda c, r, sigma: c,
    "sigma": lambda c, r, sigma: c * sigma,
    "linear": lambda c, r, sigma: c * r,
    "decreasing": lambda c, r, sigma: 0.25 * (1.0 - c * math.cos(math.pi * r)) ** 2,
    "increasing_decreasing": lambda c, r, sigma: c * math.sin(math.pi * r) ** 2,
}


def diffusion_of_tau(tau: float, s: Node, t: Node) -> float:
    """Diffusion ``w = tau^2 sigma^2 |dlam/dt|`` at s.

    ``|dlam/dt| = (sigma' alpha - alpha' sigma) / (alpha sigma)``. At alpha = 0, where it is
    infinite, the denominator uses alpha of the next node t (as in Flow-GRPO's code). Raises
    PlanError if the derivatives of the path are unknown at s.
    """
    if tau == 0.0:
        return 0.0
    if s.dalpha is None or s.dsigma is None:
        raise PlanError(
            f"the diffusion at t={s.t} needs d alpha/dt and d sigma/dt, which are unknown there"
        )
    return tau * tau * s.sigma * (s.dsigma * s.alpha - s.dalpha * s.sigma) / (s.alpha or t.alpha)


def drift(b: PlanBuilder, x: Expression, s: Node, w: float) -> Expression:
    """Drift ``u - w s = u + (w / sigma) eps`` of the state ``x`` at s."""
    if w == 0.0:
        return b.evaluate(x, s, "velocity")
    u, e = b.evaluate_kinds(x, s, ("velocity", "eps"))
    return u + (w / s.sigma) * e


def em_step(b: PlanBuilder, x: Expression, s: Node, t: Node, w: float) -> Expression:
    """Euler-Maruyama step from ``x`` at s to t."""
    h = finite_time(t) - finite_time(s)
    y = x + h * drift(b, x, s, w)
    return b.at(t, y if w == 0.0 else y + math.sqrt(-2.0 * w * h) * b.noise(s, t))


def data_step(b: PlanBuilder, x: Expression, s: Node, t: Node) -> Expression:
    """Step to sigma_t = 0, ``x_t = alpha_t E[x0 | x]``."""
    return b.at(t, t.alpha * b.evaluate(x, s, "x0"))


@dataclass(frozen=True)
class InterpolantODE:
    """Options. ``method``: euler or heun in t."""

    method: str = "heun"

    def __post_init__(self) -> None:
        choice("method", self.method, ("euler", "heun"))


@dataclass(frozen=True)
class InterpolantSDE:
    """Options of ``interpolant_sde``.

    ``diffusion``: form of w, ``sbdm`` (w = scale sigma^2 |dlam/dt|, which is constant tau =
    sqrt(scale)) or one of SiT's constant, sigma, linear, decreasing, increasing_decreasing.
    ``scale``: its factor (in ``decreasing`` the factor of the cosine). ``method``: em or heun.
    ``last``: the noise-free step to sigma = 0, ``tweedie`` (the posterior mean), ``euler`` along u,
    or ``mean`` along the whole drift.
    """

    diffusion: str = "sbdm"
    scale: float = 1.0
    method: str = "em"
    last: str = "tweedie"

    def __post_init__(self) -> None:
        choice("diffusion", self.diffusion, ("sbdm", *SHAPES))
        number("scale", self.scale, 0.0, 1e3)
        choice("method", self.method, ("em", "heun"))
        choice("last", self.last, ("tweedie", "euler", "mean"))

    def at(self, schedule: Schedule, s: Node, t: Node) -> float:
        """Diffusion w at s, for the step to t."""
        if self.diffusion == "sbdm":
            return diffusion_of_tau(math.sqrt(self.scale), s, t)
        fraction = finite_time(s) / schedule.t_max
        return SHAPES[self.diffusion](self.scale, fraction, s.sigma) / schedule.t_max


@register(
    "interpolant_ode",
    order=lambda o: 2 if o.method == "heun" else 1,
    source="Albergo et al. 2023, arXiv 2303.08797, eq. 2.32",
    allow="asymptotic",
    alpha_zero=True,
    variants=({"method": "euler"},),
)
def interpolant_ode(b: PlanBuilder, grid: Grid, options: InterpolantODE) -> Plan:
    """The ODE of a stochastic interpolant in its own time; a last step whose end has no finite time
    returns the posterior mean."""
    x, frame = b.start(grid[0]), TimeFrame(grid)
    for s, t in grid.pairs():
        infinite = t.t is None or math.isinf(t.t)
        x = (
            data_step(b, x, s, t)
            if infinite
            else rk_step(b, x, s, t, TABLEAUS[options.method], frame)
        )
    return b.finish(x)


@register(
    "interpolant_sde",
    order=1,
    source="Ma et al. 2024, arXiv 2401.08740, Alg. 2",
    tau=lambda o: math.sqrt(o.scale),
    allow="asymptotic",
    alpha_zero=True,
    variants=({"method": "heun"}, {"scale": 0.25}),
)
def interpolant_sde(b: PlanBuilder, grid: Grid, options: InterpolantSDE) -> Plan:
    """The SDE of a stochastic interpolant with tunable diffusion, in its own time."""
    x = b.start(grid[0])
    for s, t in grid.pairs():
        w = options.at(grid.schedule, s, t)
        if t.sigma == 0.0:
            x = _last(b, x, s, t, w, options.last)
        elif options.method == "em":
            x = em_step(b, x, s, t, w)
        else:
            x = _heun_step(b, x, s, t, w, options.at(grid.schedule, t, t))
    return b.finish(x)


def _last(b: PlanBuilder, x: Expression, s: Node, t: Node, w: float, last: str) -> Expression:
    if last == "tweedie":
        return data_step(b, x, s, t)
    h = finite_time(t) - finite_time(s)
    return b.at(t, x + h * drift(b, x, s, w if last == "mean" else 0.0))


def _heun_step(
    b: PlanBuilder, x: Expression, s: Node, t: Node, w: float, w_end: float
) -> Expression:
    h = finite_time(t) - finite_time(s)
    noisy = x if w == 0.0 else b.at(s, x + math.sqrt(-2.0 * w * h) * b.noise(s, t))
    first = drift(b, noisy, s, w)
    second = drift(b, b.at(t, noisy + h * first), t, w_end)
    return b.at(t, noisy + (0.5 * h) * first + (0.5 * h) * second)

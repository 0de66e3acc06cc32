"""DDIM, DDPM and Euler ancestral: one step formula under three names.

In ``y = x / alpha`` and ``rho = sigma / alpha`` a step from s to t with x0 prediction D and
``eps = (y - D) / rho`` is

    y_t = D + s_d eps + s_u z,
    s_u = tau rho_t sqrt(1 - rho_t^2 / rho_s^2),   s_d^2 + s_u^2 = rho_t^2

(Song et al. 2020, arXiv 2010.02502, eqs. 12 and 16). tau = 0 is DDIM; tau = 1 is the DDPM posterior
(Ho et al. 2020, arXiv 2006.11239, eqs. 6-7) and the "Euler ancestral" step. As steps shrink, tau is
the diffusion strength of the reverse SDE (eta in the papers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...checks import ArgumentError, choice, number
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..option_names import option
from ..registry import register
from .windows import check_reach, check_window, in_window


def noise_share(s: Node, t: Node, tau: float) -> float:
    """Standard deviation of the fresh noise in a step, ``alpha_t s_u``; at most sigma_t."""
    if tau == 0.0 or t.sigma == 0.0:
        return 0.0
    ratio = 0.0 if s.alpha == 0.0 else t.rho / s.rho
    return min(
        t.sigma,
        tau * t.sigma * math.sqrt(-math.expm1(2.0 * math.log(ratio)))
        if ratio > 0.0
        else tau * t.sigma,
    )


def ancestral_shares(s: Node, t: Node, tau: float) -> tuple[float, float]:
    """Coefficients ``(e, fresh)`` of the ancestral step as
    ``x_t = e x + (alpha_t - e alpha_s) D + fresh z``."""
    fresh = noise_share(s, t, tau)
    return math.sqrt(max(t.sigma**2 - fresh**2, 0.0)) / s.sigma, fresh


def ancestral(
    b: PlanBuilder,
    grid: Grid,
    tau: float,
    scale: float = 1.0,
    *,
    large: bool = False,
    window: tuple[int, ...] = (),
) -> Plan:
    """Build the plan of ancestral steps along the grid. ``scale`` multiplies the noise; ``large``
    uses the variance of the forward transition; steps outside ``window`` are DDIM."""
    check_reach(window, grid.steps)
    x = b.start(grid[0])
    for i, (s, t) in enumerate(grid.pairs()):
        D = b.evaluate(x, s, "x0")
        e, fresh = ancestral_shares(s, t, in_window(tau, window, i))
        y = e * x + (t.alpha - e * s.alpha) * D
        if fresh > 0.0:
            if large:  # variance of x_s given x_t: sigma_s^2 - (alpha_s/alpha_t)^2 sigma_t^2
                fresh = math.sqrt(s.sigma**2 - (s.alpha / t.alpha) ** 2 * t.sigma**2)
            y = y + (fresh * scale) * b.noise(s, t)
        x = b.at(t, y)
    return b.finish(x)


@dataclass(frozen=True)
class DDIM:
    """Options. ``tau``: strength of the fresh noise, 0 deterministic, 1 the DDPM posterior;
    ``window``: (first, stop), the steps that draw noise; () means all."""

    tau: float = option(0.0, also=("eta",))
    window: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        number("tau", self.tau, 0.0, 1.0)
        object.__setattr__(self, "window", check_window(self.window))
        if self.window and self.tau == 0.0:
            raise ArgumentError(
                f"window={self.window!r} with tau=0: no step draws noise; give tau (eta) above 0"
            )


@dataclass(frozen=True)
class DDPM:
    """Options of DDPM.

    ``variance``: ``fixed_small`` is that of the posterior, ``fixed_large`` that of the forward
    transition (the state then has more variance than the marginal). Names with ``_log`` mean the
    same.
    """

    variance: str = "fixed_small"

    def __post_init__(self) -> None:
        if self.variance.startswith("learned"):
            raise ArgumentError(
                f"variance={self.variance!r}: must be 'fixed_small' or 'fixed_large'; a learned "
                "variance is an output of the network, which a linear plan cannot use"
            )
        choice(
            "variance",
            self.variance,
            ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
        )


@dataclass(frozen=True)
class EulerAncestral:
    """Options. ``tau``: strength of the fresh noise; ``s_noise``: factor on it (1 keeps the
    marginal)."""

    tau: float = option(1.0, also=("eta",))
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        number("tau", self.tau, 0.0, 10.0)
        number("s_noise", self.s_noise, 0.0, 10.0)


@register(
    "ddim",
    order=1,
    source="Song et al. 2020, arXiv 2010.02502, eq. 12",
    tau=lambda o: o.tau,
    alpha_zero=True,
    variants=({"tau": 0.5}, {"tau": 1.0}),
)
def ddim(b: PlanBuilder, grid: Grid, options: DDIM) -> Plan:
    """DDIM: the exponential integrator with one node, deterministic for tau = 0 and stochastic for
    tau > 0."""
    return ancestral(b, grid, options.tau, window=options.window)


@register(
    "ddpm",
    order=1,
    source="Ho et al. 2020, arXiv 2006.11239, Alg. 2",
    tau=1.0,
    allow="signal",
    alpha_zero=True,
    variants=({"variance": "fixed_large"},),
)
def ddpm(b: PlanBuilder, grid: Grid, options: DDPM) -> Plan:
    """DDPM ancestral sampling on any subset of times."""
    return ancestral(b, grid, 1.0, large="large" in options.variance)


@register(
    "euler_ancestral",
    order=1,
    source="k-diffusion; Song et al. 2020, arXiv 2010.02502, eq. 16",
    tau=lambda o: min(o.tau, 1.0),
    allow="signal",
    alpha_zero=True,
)
def euler_ancestral(b: PlanBuilder, grid: Grid, options: EulerAncestral) -> Plan:
    """Euler ancestral: Euler step below the target noise level, then fresh noise up to it."""
    return ancestral(b, grid, options.tau, options.s_noise)

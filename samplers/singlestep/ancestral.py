"""DDIM and its stochastic relatives: one function, three names.

In ``y = x / alpha`` and ``rho = sigma / alpha`` a step from s to t with x0 prediction D and
``eps = (y - D) / rho`` is

    y_t = D + s_d eps + s_u z,
    s_u = tau rho_t sqrt(1 - rho_t^2 / rho_s^2),   s_d^2 + s_u^2 = rho_t^2

(Song et al. 2020, arXiv 2010.02502, eqs. 12 and 16). tau = 0 is DDIM; tau = 1 is the DDPM posterior
(Ho et al. 2020, arXiv 2006.11239, eqs. 6-7) and the "Euler ancestral" step; as steps shrink, tau is
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


def noise_share(s: Node, t: Node, tau: float) -> float:
    """``alpha_t s_u``: the part of sigma_t that is drawn afresh, at most sigma_t."""
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
    """``(e, fresh)``: the step above as ``x_t = e x + (alpha_t - e alpha_s) D + fresh z``."""
    fresh = noise_share(s, t, tau)
    return math.sqrt(max(t.sigma**2 - fresh**2, 0.0)) / s.sigma, fresh


def ancestral(
    b: PlanBuilder, grid: Grid, tau: float, scale: float = 1.0, *, large: bool = False
) -> Plan:
    """The step above along the grid; ``scale`` multiplies the noise, ``large`` draws the variance
    of the forward transition."""
    x = b.start(grid[0])
    for s, t in grid.pairs():
        D = b.evaluate(x, s, "x0")
        e, fresh = ancestral_shares(s, t, tau)
        y = e * x + (t.alpha - e * s.alpha) * D
        if fresh > 0.0:
            if large:  # variance of x_s given x_t: sigma_s^2 - (alpha_s/alpha_t)^2 sigma_t^2
                fresh = math.sqrt(s.sigma**2 - (s.alpha / t.alpha) ** 2 * t.sigma**2)
            y = y + (fresh * scale) * b.noise(s, t)
        x = b.at(t, y)
    return b.finish(x)


@dataclass(frozen=True)
class DDIM:
    """``tau``: 0 deterministic, 1 the DDPM posterior."""

    tau: float = option(0.0, also=("eta",))

    def __post_init__(self) -> None:
        number("tau", self.tau, 0.0, 1.0)


@dataclass(frozen=True)
class DDPM:
    """``variance``: ``small`` is the posterior's, ``large`` the forward transition's (larger than
    the marginal allows)."""

    variance: str = "fixed_small"

    def __post_init__(self) -> None:
        if self.variance.startswith("learned"):
            raise ArgumentError(
                f"variance={self.variance!r}: a learned variance is an output of the network "
                "and makes no linear plan"
            )
        choice(
            "variance",
            self.variance,
            ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
        )


@dataclass(frozen=True)
class EulerAncestral:
    """``tau``: strength of the fresh noise; ``s_noise`` scales it (1 keeps the marginal)."""

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
    """DDIM: the one-node exponential integrator; with tau its stochastic family."""
    return ancestral(b, grid, options.tau)


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
    """Euler step to a lower noise level, then fresh noise up to the wanted one."""
    return ancestral(b, grid, options.tau, options.s_noise)

"""DDIM and its stochastic relatives: one function, three names.

In ``y = x / alpha`` and ``rho = sigma / alpha`` a step from s to t with x0 prediction D and
``eps = (y - D) / rho`` is

    y_t = D + s_d eps + s_u z,   s_u = eta rho_t sqrt(1 - rho_t^2 / rho_s^2),   s_d^2 + s_u^2 = rho_t^2

(Song et al. 2020, arXiv 2010.02502, eqs. 12 and 16). eta = 0 is DDIM; eta = 1 is the DDPM posterior
(Ho et al. 2020, arXiv 2006.11239, eqs. 6-7) and the "Euler ancestral" step; as steps shrink, eta is
the diffusion strength tau of the reverse SDE.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...checks import ArgumentError, choice, number
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..registry import register


def noise_share(s: Node, t: Node, eta: float) -> float:
    """``alpha_t s_u``: the part of sigma_t that is drawn afresh, at most sigma_t."""
    if eta == 0.0 or t.sigma == 0.0:
        return 0.0
    ratio = 0.0 if s.alpha == 0.0 else t.rho / s.rho
    return min(
        t.sigma,
        eta * t.sigma * math.sqrt(-math.expm1(2.0 * math.log(ratio)))
        if ratio > 0.0
        else eta * t.sigma,
    )


def ancestral_shares(s: Node, t: Node, eta: float) -> tuple[float, float]:
    """``(e, fresh)``: the step above as ``x_t = e x + (alpha_t - e alpha_s) D + fresh z``."""
    fresh = noise_share(s, t, eta)
    return math.sqrt(max(t.sigma**2 - fresh**2, 0.0)) / s.sigma, fresh


def ancestral(
    b: PlanBuilder, grid: Grid, eta: float, scale: float = 1.0, *, large: bool = False
) -> Plan:
    """The step above along the grid; ``scale`` multiplies the noise, ``large`` draws the variance
    of the forward transition."""
    x = b.start(grid[0])
    for s, t in grid.pairs():
        D = b.evaluate(x, s, "x0")
        e, fresh = ancestral_shares(s, t, eta)
        y = e * x + (t.alpha - e * s.alpha) * D
        if fresh > 0.0:
            if large:  # variance of x_s given x_t: sigma_s^2 - (alpha_s/alpha_t)^2 sigma_t^2
                fresh = math.sqrt(s.sigma**2 - (s.alpha / t.alpha) ** 2 * t.sigma**2)
            y = y + (fresh * scale) * b.noise(s, t)
        x = b.at(t, y)
    return b.finish(x)


@dataclass(frozen=True)
class DDIM:
    """``eta``: 0 deterministic, 1 the DDPM posterior."""

    eta: float = 0.0

    def __post_init__(self) -> None:
        number("eta", self.eta, 0.0, 1.0)


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
    """``eta``: strength of the fresh noise; ``s_noise`` scales it (1 keeps the marginal)."""

    eta: float = 1.0
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        number("eta", self.eta, 0.0, 10.0)
        number("s_noise", self.s_noise, 0.0, 10.0)


@register(
    "ddim",
    order=1,
    source="Song et al. 2020, arXiv 2010.02502, eq. 12",
    tau=lambda o: o.eta,
    alpha_zero=True,
    variants=({"eta": 0.5}, {"eta": 1.0}),
)
def ddim(b: PlanBuilder, grid: Grid, options: DDIM) -> Plan:
    """DDIM: the one-node exponential integrator; with eta its stochastic family."""
    return ancestral(b, grid, options.eta)


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
    tau=lambda o: min(o.eta, 1.0),
    allow="signal",
    alpha_zero=True,
)
def euler_ancestral(b: PlanBuilder, grid: Grid, options: EulerAncestral) -> Plan:
    """Euler step to a lower noise level, then fresh noise up to the wanted one."""
    return ancestral(b, grid, options.eta, options.s_noise)

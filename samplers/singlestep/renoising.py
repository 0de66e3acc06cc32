"""Few-step samplers of distilled networks: predict the data, add fresh noise, repeat.

The network's x0 is a consistency function F(x, t), the end of the probability-flow trajectory
through x, and not a posterior mean. With F a step from s to t is exact in law for any number of
steps:

    consistency, lcm    x_t = alpha_t F(x_s) + sigma_t z
    tcd                 DDIM to t' = (1 - gamma) t, then forward to t:  x_t = alpha_t F + k eps +
                        sqrt(sigma_t^2 - k^2) z,
                        k = alpha_t sigma_t' / alpha_t'

(Song et al. 2023, arXiv 2303.01469, Alg. 1; Luo et al. 2023, arXiv 2310.04378, Alg. 3; Zheng et al.
2024, arXiv 2402.19159, eq. 13.) With a posterior mean in place of F they do not converge as steps
are added, because the noise per step does not vanish (tau is infinite). The declared order is
therefore 0, except for gamma = 0, which is DDIM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...checks import number
from ...plans.builder import Expression, PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..option_names import option
from ..registry import register
from .frames import finite_time

#: sigma_data of LCM's boundary scaling (latents of Stable Diffusion)
SIGMA_DATA = 0.5


@dataclass(frozen=True)
class Consistency:
    """Options of ``consistency``.

    ``floor``: rho of the noise level that the network's output belongs to (sigma_min of consistency
    models, where F is the identity). The output already contains noise of that size, so
    ``sqrt(rho^2 - floor^2)`` is added instead of rho. 0: the output is clean.
    """

    floor: float = 0.0

    def __post_init__(self) -> None:
        number("floor", self.floor, 0.0, 1e3)


@dataclass(frozen=True)
class LCM:
    """Options of LCM.

    ``timestep_scaling``: LCM's boundary scaling, ``F = c_skip x + c_out x0`` with
    ``c_skip = 1/4 / (s^2 + 1/4)``, ``c_out = s / sqrt(s^2 + 1/4)``, ``s = timestep_scaling * t``
    (diffusers: 10, on tables). 0 uses x0 unchanged, the limit of large s.
    """

    timestep_scaling: float = 0.0

    def __post_init__(self) -> None:
        number("timestep_scaling", self.timestep_scaling, 0.0, 1e9)


@dataclass(frozen=True)
class TCD:
    """Options of TCD.

    ``gamma``: how far below the next time the deterministic part of a step goes before noise is
    added, as a fraction of that time; 0 is DDIM, 1 goes to the data (diffusers' eta).
    """

    gamma: float = option(0.3, also=("eta",))

    def __post_init__(self) -> None:
        number("gamma", self.gamma, 0.0, 1.0)


def _renoise(b: PlanBuilder, data: Expression, s: Node, t: Node, floor: float = 0.0) -> Expression:
    """``alpha_t data + sqrt(sigma_t^2 - alpha_t^2 floor^2) z``."""
    fresh = math.sqrt(max((t.sigma - t.alpha * floor) * (t.sigma + t.alpha * floor), 0.0))
    return b.at(t, t.alpha * data if fresh == 0.0 else t.alpha * data + fresh * b.noise(s, t))


@register(
    "consistency",
    order=0,
    source="Song et al. 2023, arXiv 2303.01469, Alg. 1",
    tau=math.inf,
    allow="signal",
    alpha_zero=True,
    variants=({"floor": 0.002},),
)
def consistency(b: PlanBuilder, grid: Grid, options: Consistency) -> Plan:
    """Multistep consistency sampling: predict the data with one evaluation, add fresh noise,
    repeat."""
    x = b.start(grid[0])
    for s, t in grid.pairs():
        x = _renoise(b, b.evaluate(x, s, "x0"), s, t, options.floor)
    return b.finish(x)


def boundary(options: LCM, node: Node) -> tuple[float, float]:
    """``(c_skip, c_out)`` of LCM's boundary scaling at ``node``."""
    if not options.timestep_scaling:
        return 0.0, 1.0
    scaled = options.timestep_scaling * finite_time(node)
    total = scaled * scaled + SIGMA_DATA**2
    return SIGMA_DATA**2 / total, scaled / math.sqrt(total)


@register(
    "lcm",
    order=0,
    source="Luo et al. 2023, arXiv 2310.04378, Alg. 3",
    tau=math.inf,
    allow="asymptotic",
    alpha_zero=True,
)
def lcm(b: PlanBuilder, grid: Grid, options: LCM) -> Plan:
    """Latent consistency sampling: ``consistency`` with LCM's boundary scaling as an option."""
    x = b.start(grid[0])
    for s, t in grid.pairs():
        data = b.evaluate(x, s, "x0")
        if options.timestep_scaling:
            skip, out = boundary(options, s)
            data = skip * x + out * data
        x = _renoise(b, data, s, t)
    return b.finish(x)


@register(
    "tcd",
    order=lambda o: 0 if o.gamma else 1,
    source="Zheng et al. 2024, arXiv 2402.19159, eq. 13",
    tau=lambda o: math.inf if o.gamma else 0.0,
    alpha_zero=True,
    variants=({"gamma": 0.0}, {"gamma": 1.0}),
)
def tcd(b: PlanBuilder, grid: Grid, options: TCD) -> Plan:
    """Trajectory consistency sampling: DDIM to a time below the next node, then forward noise up to
    it."""
    x = b.start(grid[0])
    for s, t in grid.pairs():
        lower = below(grid, t, options.gamma)
        D, e = (
            b.evaluate_kinds(x, s, ("x0", "eps"))
            if s.alpha
            else (b.evaluate(x, s, "x0"), x / s.sigma)
        )
        kept = t.alpha / lower.alpha * lower.sigma
        y = t.alpha * D + kept * e
        x = b.at(
            t,
            y if lower == t else y + math.sqrt((t.sigma - kept) * (t.sigma + kept)) * b.noise(s, t),
        )
    return b.finish(x)


def below(grid: Grid, t: Node, gamma: float) -> Node:
    """Node at ``(1 - gamma) t``, rounded down to an entry on tables; t itself at sigma = 0."""
    if t.sigma == 0.0 or gamma == 0.0:
        return t
    schedule = grid.schedule
    time = (1.0 - gamma) * finite_time(t)
    time = float(math.floor(time)) if schedule.t_zero == -1.0 else time
    node = grid.at_t(max(time, schedule.t_low))
    return node if node.rho < t.rho else t

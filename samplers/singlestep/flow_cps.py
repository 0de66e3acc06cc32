"""Coefficient-preserving sampling: every step replaces the same share of the noise by fresh noise.

With the x0 prediction D and ``eps = (x - alpha_s D) / sigma_s`` a step from s to t is

    x_t = alpha_t D + sqrt(sigma_t^2 - c^2) eps + c z,   c = share sigma_t

Flow-CPS (Wang & Yu 2025, arXiv 2509.05952) is this step on the straight path with
``share = sin(eta pi / 2)``; it is written here for every path. On VP it is the step of DDNM (Wang
et al. 2022, arXiv 2212.00490), whose eta is the share itself.

Signal and noise have the right size after every step, whatever its length, which Euler-Maruyama
reaches only as steps shrink. The fresh noise does not vanish with the step, so the sampler has no
order: with an exact model the law of its samples stays off by the same amount for any number of
steps (their spread is too small), unless the share is 0, which is DDIM. ``flow_sde`` has steps of
the same form with ``c = sigma_t sqrt(1 - e^{-2 tau^2 h})``, and converges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...checks import number
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ..option_names import option
from ..registry import register
from .windows import check_reach, check_window, in_window


def share_of_eta(eta: float) -> float:
    """Convert the eta of Flow-CPS, from 0 to 1, to the share ``sin(eta pi / 2)``."""
    return math.sin(0.5 * math.pi * number("eta", eta, 0.0, 1.0))


@dataclass(frozen=True)
class FlowCPS:
    """Options of ``flow_cps``.

    ``share``: part of the noise that is fresh after a step, from 0 (DDIM) to 1 (all of it);
    Flow-CPS's eta, which its code calls noise_level, is ``(2 / pi) asin(share)``. ``window``:
    (first, stop), the steps that draw noise; () means all.
    """

    share: float = option(
        share_of_eta(0.7), also={"eta": share_of_eta, "noise_level": share_of_eta}
    )
    window: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        number("share", self.share, 0.0, 1.0)
        object.__setattr__(self, "window", check_window(self.window))


@register(
    "flow_cps",
    order=lambda o: 0 if o.share else 1,
    source="Wang & Yu 2025, arXiv 2509.05952 (Flow-CPS)",
    tau=lambda o: math.inf if o.share else 0.0,
    alpha_zero=True,
    on=("flow", "vp"),
    variants=({"share": 0.0}, {"share": 1.0}),
)
def flow_cps(b: PlanBuilder, grid: Grid, options: FlowCPS) -> Plan:
    """Coefficient-preserving sampling for reinforcement learning: DDIM steps that replace a fixed
    share of the noise by fresh noise."""
    check_reach(options.window, grid.steps)
    x = b.start(grid[0])
    for i, (s, t) in enumerate(grid.pairs()):
        D = b.evaluate(x, s, "x0")
        share = in_window(options.share, options.window, i)
        e = t.sigma * math.sqrt((1.0 - share) * (1.0 + share)) / s.sigma
        y = e * x + (t.alpha - e * s.alpha) * D
        c = t.sigma * share
        x = b.at(t, y + c * b.noise(s, t) if c > 0.0 else y)
    return b.finish(x)

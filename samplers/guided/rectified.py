"""Rectified-CFG++: predictor and corrector on the velocities of a guided flow (Saini et al. 2025,
arXiv 2510.07631)."""

from __future__ import annotations

from dataclasses import dataclass

from ...checks import number
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ..registry import register
from ..singlestep.frames import TimeFrame, finite_time


@dataclass(frozen=True)
class Rectified:
    """Options. ``gamma``: the strength is ``l (1 - t)^gamma``; ``stage``: position of the second
    call as a fraction of the step, 0.5 in the paper, 1 in the authors' code."""

    gamma: float = 0.0
    stage: float = 0.5

    def __post_init__(self) -> None:
        number("gamma", self.gamma, 0.0, 100.0)
        number("stage", self.stage, 1e-3, 1.0)


@register(
    "rectified_cfg_pp",
    order=1,
    source="Saini et al. 2025, arXiv 2510.07631, Alg. 1",
    allow="asymptotic",
    alpha_zero=True,
    on="flow",
    channels=("main", "cond", "uncond"),
    variants=({"gamma": 1.0}, {"stage": 1.0}),
)
def rectified_cfg_pp(b: PlanBuilder, grid: Grid, options: Rectified) -> Plan:
    """Rectified-CFG++: Euler in t on the conditional velocity, with the guidance of a point ahead.

    ``x_t = x_s + (t - s) (c_s + (1 - s)^gamma l (c_m - u_m))``: c and u are the conditional and the
    unconditional velocity, m a point at the fraction ``stage`` of the step, reached along c_s, and
    l the scale of ``guidance.CFG`` (lambda_max of the paper, which lets it be larger than 1). Two
    network calls a step, the first of them conditional only; one call, at the start of the step,
    where m would be at sigma = 0 or below the first entry of a table.
    """
    frame, reads = TimeFrame(grid), [("velocity", name) for name in ("cond", "main", "uncond")]
    x = b.start(grid[0])
    for s, t in grid.pairs():
        dt = finite_time(t) - finite_time(s)
        at_zero = options.stage == 1.0 and t.sigma == 0.0
        if frame.reaches(s, t, options.stage) and not at_zero:
            middle = frame.stage(s, t, options.stage)
            c = b.evaluate(x, s, "velocity", "cond")
            stage = b.at(middle, x + (options.stage * dt) * c)
            guided, plain = b.evaluate_kinds(stage, middle, reads[1:])
        else:
            c, guided, plain = b.evaluate_kinds(x, s, reads)
        strength = (s.alpha / (s.alpha + s.sigma)) ** options.gamma
        x = b.at(t, x + dt * (c + strength * (guided - plain)))
    return b.finish(x)

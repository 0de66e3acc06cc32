"""The probability-flow ODE by adaptive Runge-Kutta pairs, in the angle of the path.

With ``r = hypot(alpha, sigma)`` and ``phi = atan2(sigma, alpha)`` the state
``w = x / r = cos(phi) x0 + sin(phi) eps`` satisfies

    dw/dphi = v / r,   v = alpha eps - sigma x0

(the flow of Song et al. 2021, arXiv 2011.13456, eq. 13, in the variables of Salimans & Ho 2022,
arXiv 2202.00512, appendix D). All terms stay finite at alpha = 0 (phi = pi/2) and sigma = 0, and
the schedule only supplies the times. ``w`` is of order one on every path, so ``atol`` has the same
meaning everywhere: ``w`` is ``x`` itself on VP paths and ``x / sqrt(1 + sigma^2)`` on VE ones.

A step is accepted if the largest of the samples' ``rms(error / (atol + rtol max(|w_s|, |w_t|)))``
is at most 1. The samples of a batch share their steps, so the bits of a sample depend on its batch.
With ``per_sample`` each sample is integrated alone, at one row per network call, and its bits do
not. The host reads this norm once per step.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ...checks import flag, number
from ...plans.builder import PlanBuilder, dot
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..registry import register
from ..singlestep.frames import AngleFrame, angle, at_angle, radius
from ..singlestep.runge_kutta import stage_slopes
from ..singlestep.tableau import Tableau
from .dormand_prince import DORMAND_PRINCE_5, DORMAND_PRINCE_8
from .driver import Drive, Driven, Fragment, Ran, Raws, StepSizeError, fragment
from .end_points import end_of, to_zero
from .single_samples import by_sample
from .step_control import PI, rms, scale


@dataclass(frozen=True)
class AdaptiveODE(Driven):
    """Options. ``rtol``, ``atol``: tolerances of a step; ``per_sample``: each sample has its own
    steps."""

    rtol: float = 1e-5
    atol: float = 1e-5
    per_sample: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        number("rtol", self.rtol, 1e-14, 1.0)
        number("atol", self.atol, 1e-14, 1.0)
        flag("per_sample", self.per_sample)


def embedded_step(grid: Grid, s: Node, t: Node, pair: Tableau) -> Fragment:
    """Fragment of one step of ``pair`` from s to t; keeps its error estimates, in units of w."""
    b = PlanBuilder((s, t), "asymptotic")
    x, frame = b.start(s), AngleFrame(grid)
    slopes = stage_slopes(b, x, s, t, pair, frame)
    y = b.at(t, frame.move(x, s, t, t, 1.0, dot(pair.b, slopes)))
    if pair.fsal:
        slopes.append(frame.slope(b.evaluate(y, t, frame.kind), t))
    h = angle(t) - angle(s)
    return fragment(b, y, *(b.value(dot(row, slopes) * h) for row in pair.errors))


def error_norm(ran: Ran, before: Tensor, s: Node, t: Node, options: AdaptiveODE) -> Tensor:
    """Error of each sample in units of its tolerance, (B,)."""
    per = scale(before / radius(s), ran.x / radius(t), options.atol, options.rtol)
    norms = [rms(error / per) for error in ran.kept]
    if len(norms) == 1:
        return norms[0]
    five, three = (norm.square() for norm in norms)
    return five / (five + 0.01 * three).clamp_min(1e-30).sqrt()


def integrate(drive: Drive, grid: Grid, pair: Tableau, options: AdaptiveODE) -> Tensor:
    """Integrate from the grid's first node to its end."""
    end = end_of(grid)
    last = angle(end)
    control = PI(pair.power)
    span = angle(drive.node) - last
    h = span * min(0.2, max(options.rtol, options.atol) ** (1.0 / pair.power))
    known: Raws | None = None
    while drive.node != end:
        s, phi = drive.node, angle(drive.node)
        h = min(h, phi - last)
        t = end if phi - last - h <= 1e-9 * span else at_angle(grid, phi - h)
        if h <= 1e-14 * phi:
            raise StepSizeError(drive.x, s.t, drive.nfe)
        ran = drive.run(embedded_step(grid, s, t, pair), known=known)
        fits, factor = control.next(drive.read(error_norm(ran, drive.x, s, t, options)))
        if fits:
            edited = drive.accept(ran.x, t, ran.first)
            known = ran.last if pair.fsal and not edited else None
        else:
            drive.rejected += 1
            known = ran.first
        h *= factor
    return to_zero(drive, grid, known)


def solve(drive: Drive, grid: Grid, pair: Tableau, options: AdaptiveODE) -> Tensor:
    """Integrate all samples together, or each alone if ``per_sample``."""
    if options.per_sample:
        return by_sample(drive, lambda one: integrate(one, grid, pair, options))
    return integrate(drive, grid, pair, options)


@register(
    "ode45",
    order=5,
    source="Dormand & Prince 1980, J. Comp. Appl. Math. 6; Song et al. 2021, arXiv 2011.13456, "
    "section 4.3",
    form="driver",
    free=True,
    variants=({"per_sample": True},),
)
def ode45(drive: Drive, grid: Grid, options: AdaptiveODE) -> Tensor:
    """Probability-flow ODE by Dormand-Prince 5(4) with adaptive steps; the last slope of a step is
    reused as the first of the next."""
    return solve(drive, grid, DORMAND_PRINCE_5, options)


@register(
    "ode853",
    order=8,
    source="Hairer, Norsett & Wanner 1993, II.5 (DOP853); Song et al. 2021, arXiv 2011.13456, "
    "section 4.3",
    form="driver",
    free=True,
)
def ode853(drive: Drive, grid: Grid, options: AdaptiveODE) -> Tensor:
    """Probability-flow ODE by Dormand-Prince 8(5,3) with adaptive steps, for tight tolerances."""
    return solve(drive, grid, DORMAND_PRINCE_8, options)

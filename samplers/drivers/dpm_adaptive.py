"""Adaptive DPM-Solver: singlestep blocks of two orders that share their evaluations (Lu et al.
2022, arXiv 2206.00927, appendix C).

A trial from s to t, h = lam_t - lam_s, makes a lower and a higher solution from the same
predictions,

    order 2 ("12")   first order in m(s);               second order, stage at lam_s + h/2
    order 3 ("23")   second order, stage at lam_s + h/3;  third order, stages at lam_s + h/3 and
                     lam_s + 2h/3

and measures ``E = rms((x_high - x_low) / max(atol, rtol max(|x_low|, |x_prev|)))``, where x_prev is
the lower solution of the last accepted trial. The run continues from the higher solution.
``control="dpm"`` is the paper's rule (h <- theta h E^{-1/order}), ``"pid"`` that of k-diffusion.
The paper uses the error of the worst sample, k-diffusion the mean over the whole batch
(``coupling``). A trial that would pass the end is cut there: ``dpm`` then scales the step that was
cut, ``pid`` the uncut step (as k-diffusion does); the difference matters if the trial is rejected.
The first evaluation of a rejected trial is not repeated, so the count is below ``order`` calls per
trial (unless ``Drive.reuse`` is False). The host reads one number per trial.

With ``tau`` > 0 a trial goes down to the noise level of an Euler ancestral step from s to t (not
below the end's). If it is accepted, fresh noise raises the state to t. The controller then uses 1.5
for the order, as k-diffusion does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import ArgumentError, choice, flag, integer, number
from ...plans.builder import Expression, PlanBuilder, dot
from ...plans.running.loop import Outputs
from ...plans.weights.exponential import weights
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..option_names import option
from ..registry import register
from ..singlestep.dpm_solver import lower_level
from .driver import Drive, Driven, Fragment, Raws, StepSizeError, Trial, fragment
from .end_points import end_of, from_zero_signal, to_zero
from .single_samples import by_sample
from .step_control import PID, Deadbeat, rms

#: remaining distance in lam that is too short for a separate step
NEAR = 1e-5


@dataclass(frozen=True)
class DPMAdaptive(Driven):
    """Options of the adaptive DPM-Solver.

    Attributes:
        order: order of the higher solution, 2 or 3.
        kind: ``eps`` (DPM-Solver) or ``x0`` (DPM-Solver++).
        rtol, atol: tolerances; 0.0078 is one grey level of data in [-1, 1].
        h0: first step in lam.
        control: ``dpm`` (the paper's) or ``pid`` (k-diffusion's, with ``pcoeff``, ``icoeff``,
            ``dcoeff``, ``accept_safety``).
        theta: safety factor of ``dpm``.
        coupling: ``max``: the error of the worst sample of the batch; ``mean``: the root mean
            square over the whole batch.
        per_sample: each sample has its own steps.
        tau: strength of the fresh noise, as in Euler ancestral; 0: the ODE. ``s_noise``: factor on
            that noise (1 keeps the marginal).
    """

    order: int = 3
    kind: str = "eps"
    rtol: float = 0.05
    atol: float = 0.0078
    h0: float = 0.05
    control: str = "dpm"
    theta: float = 0.9
    pcoeff: float = 0.0
    icoeff: float = 1.0
    dcoeff: float = 0.0
    accept_safety: float = 0.81
    coupling: str = "max"
    per_sample: bool = False
    tau: float = option(0.0, also=("eta",))
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        integer("order", self.order, 2, 3)
        choice("kind", self.kind, ("eps", "x0"))
        choice("control", self.control, ("dpm", "pid"))
        choice("coupling", self.coupling, ("max", "mean"))
        flag("per_sample", self.per_sample)
        for name, low, high in (
            ("rtol", 1e-12, 1.0),
            ("atol", 1e-12, 10.0),
            ("h0", 1e-6, 10.0),
            ("theta", 0.01, 1.0),
        ):
            number(name, getattr(self, name), low, high)
        for name in ("pcoeff", "icoeff", "dcoeff"):
            number(name, getattr(self, name), -2.0, 2.0)
        number("accept_safety", self.accept_safety, 0.01, 1.0)
        number("tau", self.tau, 0.0, 10.0)
        number("s_noise", self.s_noise, 0.0, 10.0)
        if self.per_sample and self.tau:
            raise ArgumentError(
                f"per_sample=True with tau={self.tau}: tau must be 0; per-sample steps exist for "
                "the ODE only"
            )

    def controller(self) -> Deadbeat | PID:
        """The step-size rule in its initial state."""
        if self.control == "dpm":
            return Deadbeat(self.order, self.theta)
        return PID(
            1.5 if self.tau else self.order,
            self.pcoeff,
            self.icoeff,
            self.dcoeff,
            self.accept_safety,
        )


def trial(grid: Grid, s: Node, t: Node, order: int, kind: str) -> Fragment:
    """Fragment with both solutions at t: the result is the higher one; the lower one is kept."""
    b = PlanBuilder((s, t), "exact")
    x = b.start(s)
    h = t.lam - s.lam
    nodes, values = [s], [b.evaluate(x, s, kind)]

    def solution(to: Node, which: Sequence[int], moment: str | None = None) -> Expression:
        w = weights(s, to, [nodes[i] for i in which], kind, moment=moment)
        return b.at(to, w.carry * x + dot(w.values, [values[i] for i in which]))

    for k in range(1, order):
        node = grid.at_lam(s.lam + k / order * h)
        values.append(b.evaluate(solution(node, range(k)), node, kind))
        nodes.append(node)
    low = solution(t, [0]) if order == 2 else solution(t, [0, 1], "half")
    high = solution(t, [0, 1], "half") if order == 2 else solution(t, [0, 2])
    return fragment(b, high, low)


def error_norm(high: Tensor, low: Tensor, previous: Tensor, options: DPMAdaptive) -> Tensor:
    """Error in units of the tolerance, per sample (B,) or for the batch ()."""
    delta = torch.maximum(low.abs(), previous.abs()).mul_(options.rtol).clamp_min_(options.atol)
    norm = rms((high - low) / delta)
    return norm if options.coupling == "max" else norm.square().mean().sqrt()


def raised(drive: Drive, x: Tensor, down: Node, t: Node, s_noise: float) -> Tensor:
    """Add fresh noise to the state ``x`` at ``down`` up to t; returns ``x`` if ``down`` is t."""
    if down == t:
        return x
    b = PlanBuilder((down, t), "signal")
    fresh = t.alpha * math.sqrt(t.rho**2 - down.rho**2)
    y = (t.alpha / down.alpha) * b.start(down) + (fresh * s_noise) * b.noise(drive.node, t)
    return drive.run(fragment(b, b.at(t, y)), x, noise=[drive.draw(x, drive.node, t)]).x


def integrate(drive: Drive, grid: Grid, options: DPMAdaptive) -> Tensor:
    """Integrate from the grid's first node to its end, toward data or toward noise."""
    from_zero_signal(drive, grid)
    end, control, h = end_of(grid), options.controller(), options.h0
    way = math.copysign(1.0, end.lam - drive.node.lam)
    previous = drive.x
    known: Raws | None = None
    while drive.node != end:
        s = drive.node
        left = way * (end.lam - s.lam)
        if not drive.exact_end and left <= NEAR:
            break
        if h <= 1e-12:
            raise StepSizeError(drive.x, s.t, drive.nfe)
        t = end if left - h <= (NEAR if drive.exact_end else 0.0) else grid.at_lam(s.lam + way * h)
        down = lower_level(grid, s, t, options.tau, end)
        ran = drive.run(trial(grid, s, down, options.order, options.kind), known=known)
        (low,) = ran.kept
        error = error_norm(ran.x, low, previous, options)
        fits, factor = control.next(drive.read(error))
        h = factor * (h if options.control == "pid" else min(h, left))
        outputs = Outputs(drive.denoiser, s, drive.x, ran.first)
        if fits:
            drive.accept(raised(drive, ran.x, down, t, options.s_noise), t, ran.first)
            previous, known = low, None
        else:
            drive.rejected += 1
            known = ran.first if drive.reuse else None
        if drive.on_trial is not None:
            drive.on_trial(Trial(s, fits, error, way * h, outputs))
    return to_zero(drive, grid)


@register(
    "dpm_adaptive",
    order=lambda o: o.order,
    source="Lu et al. 2022, arXiv 2206.00927, appendix C",
    form="driver",
    free=True,
    tau=lambda o: min(o.tau, 1.0),
    variants=(
        {"order": 2},
        {"kind": "x0"},
        {"order": 2, "kind": "x0"},
        {"control": "pid", "coupling": "mean"},
        {"per_sample": True},
    ),
)
def dpm_adaptive(drive: Drive, grid: Grid, options: DPMAdaptive) -> Tensor:
    """DPM-Solver with adaptive steps: orders 1 and 2, or 2 and 3, from the same evaluations."""
    if options.per_sample:
        return by_sample(drive, lambda one: integrate(one, grid, options))
    return integrate(drive, grid, options)

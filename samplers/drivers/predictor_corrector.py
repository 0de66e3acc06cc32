"""Predictor-corrector sampling (Song et al. 2021, arXiv 2011.13456, algorithms 1-3, 4-5 and
appendix G).

Predictors, from s to t (t later, less noise), with the score at s and ``dx = f x dt + g dW`` the
forward SDE:

    euler_maruyama     x - (f x - g^2 score)(s - t) + g sqrt(s - t) z, in the schedule's own time
    reverse_diffusion  (2 - a) x + G^2 score + G z,
                       a = alpha_s / alpha_t, G^2 = sigma_s^2 - a^2 sigma_t^2
    ancestral          DDPM, with the variance of the posterior or of the forward transition (the
                       paper's choice on VP paths)
    ddim               the probability-flow step

Correctors, at one level, n times before each prediction; a = (alpha_s / alpha_t)^2, 1 on VE paths
(1 - beta of a discrete VP):

    langevin           x + e score + sqrt(2 e) z,   e = 2 a (snr |z| / |score|)^2
    ald                the same with e = 2 a (snr sigma_s)^2: annealed Langevin dynamics, arXiv
                       1907.05600
    renoise            alpha D + sqrt(1 - delta)(x - alpha D) + sqrt(delta) sigma z, which keeps the
                       level's marginal where D is exact

The step size of ``langevin`` depends on norms computed on the device and cannot be a coefficient of
a plan. Each prediction is therefore a step of the predictor's plan, run by the common loop, and the
corrected state replaces the state that is about to be evaluated. The device is never synchronised.
Norms are per sample by default, so that bits do not depend on the batch; ``norms="batch"`` uses the
batch's mean, as the paper's code does. Because a sample's norms depend on its state and its z,
``langevin`` keeps a variance of ``(1 + 2 / d)^2`` times the marginal's in d dimensions: negligible
for pictures, large for points.

A last step to sigma = 0 returns ``E[x0 | x]``, without noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentError, choice, integer, number
from ...plans.builder import Expression, PlanBuilder
from ...plans.plan import Plan
from ...plans.running.loop import Cursor
from ...plans.running.lowering import lower
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..registry import NoOptions, build, get, make_options, register
from .driver import Drive, Driven
from .end_points import to_zero

PREDICTORS = ("euler_maruyama", "reverse_diffusion", "ancestral", "ddim", "none")
CORRECTORS = ("langevin", "ald", "renoise", "none")


def _reverse(
    b: PlanBuilder, grid: Grid, rule: Callable[[Node, Node], tuple[float, float, float]]
) -> Plan:
    """Build a plan of steps ``x <- c_x x + c_s score + c_z z``; the step to sigma = 0 returns the
    mean of x0."""
    x = b.start(grid[0])
    for s, t in grid.pairs():
        if t.sigma == 0.0:
            x = b.at(t, t.alpha * b.evaluate(x, s, "x0"))
            continue
        cx, cs, cz = rule(s, t)
        score: Expression = b.evaluate(x, s, "score")
        x = b.at(t, cx * x + cs * score + cz * b.noise(s, t))
    return b.finish(x)


def _in_time(s: Node, t: Node) -> tuple[float, float, float]:
    if s.t is None or t.t is None or s.dalpha is None or s.dsigma is None:
        raise ArgumentError(
            f"euler_maruyama needs the derivatives of the path in t, which are unknown at {s}"
        )
    dt, f = s.t - t.t, s.dalpha / s.alpha
    g2 = 2.0 * s.sigma * s.dsigma - 2.0 * f * s.sigma**2
    return 1.0 - f * dt, g2 * dt, math.sqrt(g2 * dt)


def _transition(s: Node, t: Node) -> tuple[float, float, float]:
    a = s.alpha / t.alpha
    variance = s.sigma**2 - (a * t.sigma) ** 2
    return 2.0 - a, variance, math.sqrt(variance)


@register(
    "euler_maruyama",
    order=1,
    source="Song et al. 2021, arXiv 2011.13456, appendix E",
    tau=1.0,
    allow="asymptotic",
)
def euler_maruyama(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """Euler-Maruyama on the reverse SDE, in the schedule's time."""
    return _reverse(b, grid, _in_time)


@register(
    "reverse_diffusion",
    order=1,
    source="Song et al. 2021, arXiv 2011.13456, eq. 46",
    tau=1.0,
    allow="asymptotic",
)
def reverse_diffusion(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """Reverse diffusion sampling: the forward transition, reversed with the score."""
    return _reverse(b, grid, _transition)


@dataclass(frozen=True)
class PC(Driven):
    """Options of predictor-corrector sampling.

    Attributes:
        predictor, corrector: see above; at least one of them must not be ``none``.
        snr: signal-to-noise ratio of a Langevin step (0.16 on CIFAR-10, 0.17 on CelebA, 0.075 on
            256^2 pictures).
        corrections: number of corrector steps before each prediction.
        norms: ``sample`` or ``batch`` (see above).
        delta: share of the noise that ``renoise`` replaces.
        variance: variance of ``ancestral``: ``fixed_small`` or ``fixed_large``.
    """

    predictor: str = "reverse_diffusion"
    corrector: str = "langevin"
    snr: float = 0.16
    corrections: int = 1
    norms: str = "sample"
    delta: float = 0.01
    variance: str = "fixed_small"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("predictor", self.predictor, PREDICTORS)
        choice("corrector", self.corrector, CORRECTORS)
        choice("norms", self.norms, ("sample", "batch"))
        choice("variance", self.variance, ("fixed_small", "fixed_large"))
        number("snr", self.snr, 1e-6, 10.0)
        number("delta", self.delta, 1e-6, 1.0)
        integer("corrections", self.corrections, 1, 1000)
        if self.predictor == self.corrector == "none":
            raise ArgumentError(
                "predictor='none' with corrector='none' does nothing: at least one must be given"
            )

    @property
    def calls(self) -> int:
        """Number of network calls of the corrector at each level."""
        return 0 if self.corrector == "none" else self.corrections


def langevin_share(s: Node, t: Node) -> float:
    """``(alpha_s / alpha_t)^2``, the factor a of the Langevin step size at s."""
    return min(1.0, (s.alpha / t.alpha) ** 2)


def correct(drive: Drive, x: Tensor, node: Node, share: float, options: PC) -> Tensor:
    """Apply the corrector steps at ``node`` to ``x`` (B, *shape)."""
    if share == 0.0:  # alpha = 0: x is pure noise, nothing to correct
        return x
    for _ in range(options.calls):
        score = drive.evaluate(x, node)["score"]
        z = drive.draw(x)
        if options.corrector == "renoise":
            pull: float | Tensor = (1.0 - math.sqrt(1.0 - options.delta)) * node.sigma**2
            push: float | Tensor = math.sqrt(options.delta) * node.sigma
        else:
            pull = (
                2.0 * share * (options.snr * node.sigma) ** 2
                if options.corrector == "ald"
                else _step_size(score, z, share, options)
            )
            push = (2.0 * pull) ** 0.5
        wide = torch.promote_types(x.dtype, torch.float32)
        x = (x.to(wide) + pull * score.to(wide) + push * z.to(wide)).to(x.dtype)
    return x


def _step_size(score: Tensor, z: Tensor, share: float, options: PC) -> Tensor:
    """Step size ``2 a (snr |z| / |score|)^2`` on the device, (B, 1, ...) or (1, 1, ...)."""
    wide = torch.promote_types(score.dtype, torch.float32)
    noise, gradient = (v.to(wide).flatten(1).square().sum(1).sqrt() for v in (z, score))
    if options.norms == "batch":
        noise, gradient = noise.mean(0, keepdim=True), gradient.mean(0, keepdim=True)
    size = 2.0 * share * (options.snr * noise / gradient).square()
    return size.reshape(-1, *[1] * (score.ndim - 1))


def run_corrected(drive: Drive, plan: Plan, shares: list[float], options: PC) -> Tensor:
    """Run the predictor's ``plan`` and correct the state before each network call. ``shares``:
    factor a of each call."""
    cursor = Cursor(
        lower(plan, drive.denoiser), drive.denoiser, drive.x, lambda key, like: drive.draw(like)
    )
    while (call := cursor.call) is not None:
        if options.calls:
            cursor.replace(correct(drive, cursor.x, call.node, shares[call.number], options))
        drive.x, drive.node = cursor.x if drive.on_step is None else cursor.x.clone(), call.node
        raws = drive.call(cursor.x_in, call)
        cursor.step(raws)
        if drive.accept(cursor.x if drive.on_step is None else cursor.x.clone(), cursor.node, raws):
            cursor.replace(drive.x)
    return cursor.result


def _anneal(drive: Drive, grid: Grid, options: PC) -> Tensor:
    """Run the corrector alone, level by level; returns the mean of x0 at the end."""
    for s, t in grid.pairs():
        last = t.sigma == 0.0
        drive.accept(correct(drive, drive.x, s, langevin_share(s, t), options), s if last else t)
    return to_zero(drive, grid)


def _fill(nfe: int, options: PC) -> tuple[int, PC]:
    """Largest number of steps for the budget ``nfe``."""
    alone = options.predictor == "none"
    steps = (nfe - 1) // options.calls if alone else nfe // (1 + options.calls)
    if steps < 1:
        raise ArgumentError(
            f"pc cannot do one step with nfe={nfe}: a level costs "
            f"{options.calls + (not alone)} calls"
        )
    return steps, options


def _variants() -> tuple[dict[str, Any], ...]:
    pairs = (
        (p, c)
        for p in PREDICTORS
        for c in CORRECTORS
        if (p, c) not in (("none", "none"), ("reverse_diffusion", "langevin"))
    )
    return tuple({"predictor": p, "corrector": c} for p, c in pairs)


@register(
    "pc",
    order=1,
    source="Song et al. 2021, arXiv 2011.13456, algorithms 1-3",
    tau=1.0,
    form="driver",
    fill=_fill,
    variants=(
        *_variants(),
        {"norms": "batch"},
        {"corrections": 2},
        {"predictor": "ancestral", "variance": "fixed_large"},
    ),
)
def pc(drive: Drive, grid: Grid, options: PC) -> Tensor:
    """Predictor-corrector sampling: any predictor with any corrector."""
    if options.predictor == "none":
        return _anneal(drive, grid, options)
    name, given = (
        ("ddpm", {"variance": options.variance})
        if options.predictor == "ancestral"
        else (options.predictor, {})
    )
    plan = build(name, grid, make_options(get(name), given))
    ends = [*(e.node for e in plan.evaluations), plan.end]
    return run_corrected(drive, plan, [langevin_share(s, t) for s, t in pairwise(ends)], options)

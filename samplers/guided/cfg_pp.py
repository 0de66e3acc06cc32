"""CFG++: the step moves along the unconditional noise instead of the guided one.

D is the guided x0, ``D = U + l (C - U)`` of ``guidance.CFG(model, scale=l)`` with l in [0, 1]; U is
the unconditional x0, C the conditional one. In ``y = x / alpha``, ``rho = sigma / alpha``, with
``d = (y - U) / rho`` and ``h = log(rho_s / rho_t)``, the step from s to t is

    euler                 y_t = D + rho_t d                                Chung et al. 2024, arXiv
                                                                           2406.08070, Alg. 1
    2m                    y_t = D + e^-h (y - U) + (1 - e^-h) (D - U_1) h / (2 h_1)
    2s                    y_m = e^-h/2 (y + D - U) + (1 - e^-h/2) D,   m half way in log rho
                          y_t = e^-h (y + D - U) + (1 - e^-h) D_m
    res_multistep         y_t = e^-h (y + D - U) + h (b_1 U + b_2 U_1),
                          b_1 = phi_1 - phi_2 / c_2, b_2 = phi_2 / c_2 at -h, c_2 = -h_1 / h
    gradient_estimation   y_t = D + rho_t d + (gamma - 1) (d - d_1) (rho_t - rho_s)

U_1, d_1 are those of the step before, h_1 its length; the first step, and the one to rho = 0, whose
result is D, are Euler steps. The ancestral forms step to rho_down and add ``rho_up z``,
``rho_down^2 + rho_up^2 = rho_t^2``; h and h_1 are lengths to rho_down.

For steps of first order, CFG++ is classifier-free guidance with the scale ``w = l / (1 - e^-h)``
(arXiv 2406.08070, sec. 3.3): it grows as steps shrink, so there is no limit of many steps, and no
order. With U = D (no guidance) the steps are those of the samplers of the same name without
``cfg_pp``, whose order is declared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ...checks import choice, number
from ...plans.builder import Expression, PlanBuilder
from ...plans.plan import Plan
from ...plans.weights.phi import phi
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..option_names import option
from ..registry import NoOptions, register
from ..singlestep.ancestral import noise_share

CHANNELS = ("main", "uncond")
_READS = (("x0", "main"), ("x0", "uncond"))


@dataclass(frozen=True)
class Ancestral:
    """Options of the ancestral forms. ``tau``: strength of the fresh noise, 0 for none, 1 as usual;
    ``s_noise``: factor on it (1 keeps the marginal)."""

    tau: float = option(1.0, also=("eta",))
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        number("tau", self.tau, 0.0, 10.0)
        number("s_noise", self.s_noise, 0.0, 10.0)


@dataclass(frozen=True)
class ResMultistep:
    """Options. ``history``: the prediction that is extrapolated, ``uncond`` (U, as published) or
    ``guided`` (D in the place of U and U_1 in ``b_1 U + b_2 U_1``, as one public variant has
    it)."""

    history: str = "uncond"

    def __post_init__(self) -> None:
        choice("history", self.history, ("uncond", "guided"))


@dataclass(frozen=True)
class ResMultistepAncestral(Ancestral, ResMultistep):
    """Options: those of ``res_multistep_cfg_pp`` and of ancestral steps."""

    def __post_init__(self) -> None:
        Ancestral.__post_init__(self)
        ResMultistep.__post_init__(self)


@dataclass(frozen=True)
class GradientEstimation:
    """Options. ``gamma``: weight of the new slope against the old one; 1 is Euler."""

    gamma: float = 2.0

    def __post_init__(self) -> None:
        number("gamma", self.gamma, 0.0, 10.0)


@dataclass(frozen=True)
class Move:
    """A step from ``s`` to ``t``: a deterministic part to rho ``down``, then noise of standard
    deviation ``fresh`` in x."""

    s: Node
    t: Node
    fresh: float

    @property
    def down(self) -> float:
        """rho at the end of the deterministic part."""
        return math.sqrt(max(self.t.sigma**2 - self.fresh**2, 0.0)) / self.t.alpha

    @property
    def low(self) -> Node:
        """The node at the end of the deterministic part; ``t`` without noise."""
        return Node(self.t.alpha, self.down * self.t.alpha) if self.fresh > 0.0 else self.t

    @property
    def ratio(self) -> float:
        """``e^-h = down / rho_s``, 0 at alpha = 0."""
        return 0.0 if self.s.alpha == 0.0 else self.down / self.s.rho

    @property
    def h(self) -> float:
        """Length of the deterministic part in log rho."""
        return -math.log(self.ratio) if self.ratio > 0.0 else math.inf


@dataclass(frozen=True)
class Step:
    """What a rule sees: the move, the state ``x``, the predictions ``D`` and ``U``, the values
    ``held`` from the step before and its length ``before``; both empty in the first step."""

    move: Move
    x: Expression
    D: Expression
    U: Expression
    held: tuple[Expression, ...]
    before: float

    @property
    def euler(self) -> Expression:
        """``alpha_t (D + down d)``, regular at alpha = 0."""
        move = self.move
        e = move.down * move.t.alpha / move.s.sigma
        return move.t.alpha * self.D + e * (self.x - move.s.alpha * self.U)


#: step -> (the state before the fresh noise, the values to hold)
Rule = Callable[[Step], tuple[Expression, tuple[Expression, ...]]]


def _walk(b: PlanBuilder, grid: Grid, rule: Rule, tau: float = 0.0, s_noise: float = 1.0) -> Plan:
    """The plan of steps by ``rule`` along the grid."""
    x, before = b.start(grid[0]), 0.0
    held: tuple[Expression, ...] = ()
    for s, t in grid.pairs():
        D, U = b.evaluate_kinds(x, s, _READS)
        move = Move(s, t, noise_share(s, t, tau))
        y, held = rule(Step(move, x, D, U, held, before))
        x, before = _noised(b, move, y, s_noise), move.h
    return b.finish(x)


def _noised(b: PlanBuilder, move: Move, y: Expression, s_noise: float) -> Expression:
    """The state at the end of the deterministic part, and at ``t`` with the fresh noise."""
    x = b.at(move.low, y)
    if move.fresh == 0.0:
        return x
    return b.at(move.t, x + (move.fresh * s_noise) * b.noise(move.s, move.t))


def _euler(step: Step) -> tuple[Expression, tuple[Expression, ...]]:
    return step.euler, ()


def _two_m(step: Step) -> tuple[Expression, tuple[Expression, ...]]:
    move, y = step.move, step.euler
    if step.held and move.ratio > 0.0:
        share = move.t.alpha * (1.0 - move.ratio) * move.h / (2.0 * step.before)
        y = y + share * (step.D - step.held[0])
    return y, (step.U,)


def _res(history: str) -> Rule:
    """The rule of ``res_multistep`` with a history of U or of D."""

    def rule(step: Step) -> tuple[Expression, tuple[Expression, ...]]:
        move, new = step.move, step.U if history == "uncond" else step.D
        if not step.held or move.ratio == 0.0:
            return step.euler, (new,)
        h, alpha = move.h, move.t.alpha
        b2 = 0.0 if math.isinf(step.before) else -phi(2, -h) * h / step.before
        b1 = phi(1, -h) - b2
        carried = (alpha * move.ratio) * (step.x / move.s.alpha + step.D - step.U)
        return carried + (alpha * h) * (b1 * new + b2 * step.held[0]), (new,)

    return rule


def _gradient(gamma: float) -> Rule:
    """The rule of gradient estimation."""

    def rule(step: Step) -> tuple[Expression, tuple[Expression, ...]]:
        s, t, y = step.move.s, step.move.t, step.euler
        slope = (step.x - s.alpha * step.U) / s.sigma
        if step.held and t.sigma > 0.0:
            y = y + (t.alpha * (gamma - 1.0) * (t.rho - s.rho)) * (slope - step.held[0])
        return y, (slope,)

    return rule


@register(
    "euler_cfg_pp",
    order=1,
    source="Chung et al. 2024, arXiv 2406.08070, Alg. 1",
    alpha_zero=True,
    channels=CHANNELS,
)
def euler_cfg_pp(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """CFG++: DDIM from the guided x0 along the unconditional noise."""
    return _walk(b, grid, _euler)


@register(
    "euler_ancestral_cfg_pp",
    order=1,
    source="ComfyUI, sample_euler_ancestral_cfg_pp; Chung et al. 2024, arXiv 2406.08070",
    tau=lambda o: min(o.tau, 1.0),
    allow="signal",
    alpha_zero=True,
    channels=CHANNELS,
)
def euler_ancestral_cfg_pp(b: PlanBuilder, grid: Grid, options: Ancestral) -> Plan:
    """CFG++ with fresh noise: its step to below the next noise level, then noise up to it."""
    return _walk(b, grid, _euler, options.tau, options.s_noise)


@register(
    "dpmpp_2m_cfg_pp",
    order=2,
    source="Chung et al. 2024, arXiv 2406.08070, code (DPM++ 2M CFG++)",
    channels=CHANNELS,
)
def dpmpp_2m_cfg_pp(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """CFG++ on DPM-Solver++ 2M, as published: the difference of the guided prediction and the
    unconditional one of the step before."""
    return _walk(b, grid, _two_m)


@register(
    "res_multistep_cfg_pp",
    order=2,
    source="ComfyUI, sample_res_multistep_cfg_pp; RES of Zhang et al. 2023, arXiv 2308.02157",
    channels=CHANNELS,
    variants=({"history": "guided"},),
)
def res_multistep_cfg_pp(b: PlanBuilder, grid: Grid, options: ResMultistep) -> Plan:
    """CFG++ on the two-step exponential method RES."""
    return _walk(b, grid, _res(options.history))


@register(
    "res_multistep_ancestral_cfg_pp",
    order=2,
    source="ComfyUI, sample_res_multistep_ancestral_cfg_pp; arXiv 2308.02157",
    walks=False,
    tau=lambda o: min(o.tau, 1.0),
    allow="signal",
    channels=CHANNELS,
    variants=({"tau": 0.0}, {"history": "guided"}),
)
def res_multistep_ancestral_cfg_pp(
    b: PlanBuilder, grid: Grid, options: ResMultistepAncestral
) -> Plan:
    """CFG++ on RES with fresh noise: its step to below the next noise level, then noise up to it.

    The distance of the two predictions is counted up to rho_down of the step before. This gives the
    law of Gaussian data weak order 2 without guidance; the distance of their levels gives 1.
    """
    return _walk(b, grid, _res(options.history), options.tau, options.s_noise)


@register(
    "gradient_estimation_cfg_pp",
    order=lambda o: 2 if o.gamma == 1.5 else 1,
    source="ComfyUI, sample_gradient_estimation_cfg_pp; Permenter & Yuan 2023, arXiv 2306.04848",
    channels=CHANNELS,
    variants=({"gamma": 1.5}, {"gamma": 1.0}),
)
def gradient_estimation_cfg_pp(b: PlanBuilder, grid: Grid, options: GradientEstimation) -> Plan:
    """CFG++ on gradient estimation: an extrapolated slope of the unconditional prediction."""
    return _walk(b, grid, _gradient(options.gamma))


@dataclass(frozen=True)
class TwoStage(Ancestral):
    """Options of 2S: those of ancestral steps, and ``form``, the step, with E = e^-h.

    guided       the step of the module's table
    published    y_m = E^1/2 y + (1 - E^1/2) U, y_t = D_m + E (y - U_m): code of the authors of
                 CFG++
    uncond       the same y_m, y_t = E y + (1 - E) U_m + D - U: ComfyUI since July 2026
    overwritten  the y_m of the table, y_t = E (y + D - U_m) + (1 - E) D_m: ComfyUI before
    """

    form: str = "guided"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("form", self.form, tuple(_SECOND_READS))


#: form of 2S -> the channels read from the second call of a step
_SECOND_READS = {
    "guided": ("main",),
    "published": ("main", "uncond"),
    "uncond": ("uncond",),
    "overwritten": ("main", "uncond"),
}


def _two_s(b: PlanBuilder, step: Step, middle: Node, form: str) -> Expression:
    """The state before the fresh noise, with one more call at ``middle``."""
    move, D, U, y = step.move, step.D, step.U, step.x / step.move.s.alpha
    ratio, half = move.ratio, math.sqrt(move.ratio)
    if form in ("published", "uncond"):
        stage = half * y + (1.0 - half) * U
    else:
        stage = half * (y + D - U) + (1.0 - half) * D
    reads = _SECOND_READS[form]
    values = b.evaluate_kinds(
        b.at(middle, middle.alpha * stage), middle, [("x0", name) for name in reads]
    )
    new = dict(zip(reads, values, strict=True))
    if form == "published":
        y = new["main"] + ratio * (y - new["uncond"])
    elif form == "uncond":
        y = ratio * y + (1.0 - ratio) * new["uncond"] + D - U
    else:
        y = ratio * (y + D - new.get("uncond", U)) + (1.0 - ratio) * new["main"]
    return move.t.alpha * y


@register(
    "dpmpp_2s_ancestral_cfg_pp",
    order=2,
    source="ComfyUI, sample_dpmpp_2s_ancestral_cfg_pp; DPM-Solver++ 2S of arXiv 2211.01095",
    tau=lambda o: min(o.tau, 1.0),
    allow="signal",
    channels=CHANNELS,
    variants=({"tau": 0.0}, {"tau": 0.5}),
)
def dpmpp_2s_ancestral_cfg_pp(b: PlanBuilder, grid: Grid, options: TwoStage) -> Plan:
    """CFG++ on DPM-Solver++ 2S with fresh noise, in four public forms; by default the second call
    of a step is read guided."""
    x = b.start(grid[0])
    for s, t in grid.pairs():
        D, U = b.evaluate_kinds(x, s, _READS)
        move = Move(s, t, noise_share(s, t, options.tau))
        step = Step(move, x, D, U, (), 0.0)
        if move.ratio > 0.0:
            middle = grid.at_rho(math.sqrt(move.ratio) * s.rho)
            y = _two_s(b, step, middle, options.form)
        else:
            y = step.euler
        x = _noised(b, move, y, options.s_noise)
    return b.finish(x)

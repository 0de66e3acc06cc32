"""Stochastic singlestep methods of the k-diffusion kind: two evaluations per step and fresh noise
as in an ancestral step.

In ``y = x / alpha`` a step from s to t has ``s_d^2 + s_u^2 = rho_t^2`` and
``s_u = tau rho_t sqrt(1 - rho_t^2 / rho_s^2)``.

    ancestral    a deterministic DPM-Solver-2 or DPM-Solver++ 2S step, r = 1/2, from rho_s to s_d,
                 then s_u z
    dpmpp_sde    stage at lam_s + r h: y_1 = (s_d1/rho_s) y + (1 - s_d1/rho_s) D + s_u1 z_1, with
                 (s_d1, s_u1) of the step from s to the stage;
                 y_t = (s_d/rho_s) y + (1 - s_d/rho_s) ((1 - 1/2r) D + D_1/2r) + s_u z_2

The first kind solves the probability-flow ODE to s_d and adds exact noise, so the law of the result
has the order of the ODE method. In the second kind D_1 depends on z_1, and the covariance of z_1
and z_2 determines the weak order. If each part of the step has its own noise, s_u z_2 is
``(s_d / s_d1) s_u1 z_1`` plus independent noise (weak order 2). Two independent draws give weak
order 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...checks import choice, number
from ...plans.builder import Expression, PlanBuilder, dot
from ...plans.plan import Plan
from ...plans.weights.exponential import weights
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..option_names import option
from ..registry import register
from .ancestral import ancestral_shares


@dataclass(frozen=True)
class TwoStageAncestral:
    """Options of two-stage ancestral samplers.

    ``tau``: strength of the fresh noise, 0 for the ODE method, 1 as usual; above 1 the noise is
    limited by ``s_u <= rho_t``. ``s_noise``: factor on the noise (1 keeps the marginal).
    """

    tau: float = option(1.0, also=("eta",))
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        number("tau", self.tau, 0.0, 10.0)
        number("s_noise", self.s_noise, 0.0, 10.0)


@dataclass(frozen=True)
class DPMSDE(TwoStageAncestral):
    """Options of ``dpmpp_sde``.

    ``r1``: position of the stage in lam, as a fraction of the step, at most 1 (with overlapping
    noises at most 10: a stage may lie beyond the step). ``noises``: ``split``, one for each part of
    the step (exact for constant predictions); ``overlapping``, one for [s, stage] and one for [s,
    t], as k-diffusion requests them: these are increments of one Brownian path if the noise source
    is one, and independent otherwise.
    """

    r1: float = option(0.5, also=("r",))
    noises: str = "split"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("noises", self.noises, ("split", "overlapping"))
        number("r1", self.r1, 1e-3, 1.0 if self.noises == "split" else 10.0)


def two_stage_ancestral(b: PlanBuilder, grid: Grid, kind: str, options: TwoStageAncestral) -> Plan:
    """Build the plan of DPM-Solver-2 (kind eps) or DPM-Solver++ 2S (kind x0) steps with r = 1/2 to
    below the next noise level, then fresh noise up to it."""
    x = b.start(grid[0])
    for s, t in grid.pairs():
        e, fresh = ancestral_shares(s, t, options.tau)
        low = Node(t.alpha, e * s.sigma) if fresh > 0.0 else t
        m = b.evaluate(x, s, kind)
        where, values = [s], [m]
        if low.sigma > 0.0:
            middle = grid.at_lam(s.lam + 0.5 * (low.lam - s.lam))
            w = weights(s, middle, [s], kind)
            where.append(middle)
            values.append(b.evaluate(b.at(middle, w.carry * x + dot(w.values, [m])), middle, kind))
        w = weights(s, low, where, kind, moment="half" if len(where) == 2 else None)
        x = b.at(low, w.carry * x + dot(w.values, values))
        if fresh > 0.0:
            x = b.at(t, x + (fresh * options.s_noise) * b.noise(s, t))
    return b.finish(x)


_ETAS = ({"tau": 0.0}, {"tau": 0.5})


@register(
    "dpm2_ancestral",
    order=2,
    source="Katherine Crowson, k-diffusion, sample_dpm_2_ancestral; DPM-Solver-2 of arXiv "
    "2206.00927",
    tau=lambda o: min(o.tau, 1.0),
    allow="signal",
    variants=_ETAS,
)
def dpm2_ancestral(b: PlanBuilder, grid: Grid, options: TwoStageAncestral) -> Plan:
    """DPM2 ancestral: DPM2 (midpoint in log rho on noise predictions) to below the next noise
    level, then fresh noise up to it."""
    return two_stage_ancestral(b, grid, "eps", options)


@register(
    "dpmpp_2s_ancestral",
    order=2,
    source="Katherine Crowson, k-diffusion, sample_dpmpp_2s_ancestral; DPM-Solver++ 2S of arXiv "
    "2211.01095",
    tau=lambda o: min(o.tau, 1.0),
    allow="signal",
    variants=_ETAS,
)
def dpmpp_2s_ancestral(b: PlanBuilder, grid: Grid, options: TwoStageAncestral) -> Plan:
    """DPM-Solver++ 2S ancestral: a 2S step to below the next noise level, then fresh noise up to
    it."""
    return two_stage_ancestral(b, grid, "x0", options)


def _ancestral_move(x: Expression, D: Expression, s: Node, t: Node, e: float) -> Expression:
    return e * x + (t.alpha - e * s.alpha) * D


def _weak_order(options: DPMSDE) -> int:
    return 2 if options.noises == "split" or options.tau == 0.0 else 1


@register(
    "dpmpp_sde",
    order=_weak_order,
    source="Katherine Crowson, k-diffusion, sample_dpmpp_sde; Gonzalez et al. 2023, arXiv "
    "2305.14267 for the noise",
    tau=lambda o: min(o.tau, 1.0),
    allow="signal",
    variants=({"noises": "overlapping"}, {"tau": 0.0}, {"r1": 0.4}),
)
def dpmpp_sde(b: PlanBuilder, grid: Grid, options: DPMSDE) -> Plan:
    """DPM-Solver++ SDE: ancestral step to the stage, then an ancestral step with the corrected data
    prediction."""
    split, half = options.noises == "split", 0.5 / options.r1
    x = b.start(grid[0])
    for s, t in grid.pairs():
        D = b.evaluate(x, s, "x0")
        e, fresh = ancestral_shares(s, t, options.tau)
        if t.sigma == 0.0:
            x = b.at(t, _ancestral_move(x, D, s, t, e))
            continue
        middle = grid.at_lam(s.lam + options.r1 * (t.lam - s.lam)) if options.r1 != 1.0 else t
        e1, fresh1 = ancestral_shares(s, middle, options.tau)
        z1 = (fresh1 * options.s_noise) * b.noise(s, middle) if fresh1 > 0.0 else Expression({})
        D1 = b.evaluate(b.at(middle, _ancestral_move(x, D, s, middle, e1) + z1), middle, "x0")
        y = _ancestral_move(x, (1.0 - half) * D + half * D1, s, t, e)
        if fresh > 0.0 and split:
            shared = e / e1 if e1 > 0.0 else 0.0
            own = math.sqrt(max(fresh**2 - (shared * fresh1) ** 2, 0.0))
            y = (
                y
                + shared * z1
                + ((own * options.s_noise) * b.noise(middle, t) if own > 0.0 else Expression({}))
            )
        elif fresh > 0.0:
            y = y + (fresh * options.s_noise) * b.noise(s, t)
        x = b.at(t, y)
    return b.finish(x)

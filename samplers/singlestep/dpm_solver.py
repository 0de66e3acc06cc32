"""DPM-Solver and DPM-Solver++ singlestep (Lu et al. 2022, arXiv 2206.00927 Alg. 1-2 and app. D;
arXiv 2211.01095 Alg. 1).

A block of order k from s to t has stages at ``lam_s + r h``. With f(n) the one-node exponential
step to n and m, m1, m2 the predictions,

    x1 = f(s1)
    x2 = f(s2) + w(s2; s, s1)(m1 - m)
    order 2: x_t = f(t) + mu/(2 r1) (m1 - m)       ("exact": w(t; s, s1)(m1 - m))
    order 3: x_t = f(t) + w(t; s, s2)(m2 - m)      ("exact": the quadratic through all three)

where w(n; s, k) is the weight of the second node. Order 3 requires r2 = 2/3. Blocks either span one
grid interval each (``full``, stages at r1, r2 in lam), or are filled to a number of evaluations
(``fill``): each grid interval is one evaluation, stages are grid nodes, and evaluations left over
form blocks of lower order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ...checks import ArgumentError, choice, integer, number
from ...plans.builder import Expression, PlanBuilder, dot
from ...plans.plan import Plan
from ...plans.weights.exponential import weights
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..option_names import CORRECTIONS, option
from ..registry import NoOptions, register
from .ancestral import noise_share
from .churn import Churn, lifter, stochastic


def fill_orders(order: int, nfe: int, rule: str = "fill") -> tuple[int, ...]:
    """Orders of blocks that use exactly ``nfe`` evaluations: blocks of full order, then lower ones.

    ``fill``: as in DPM-Solver-fast. ``fill_low``: order 2 also ends with a block of one evaluation.
    ``fill_high``: only the evaluations left over form a lower block.
    """
    if rule == "fill_high":
        full, rest = divmod(nfe, order)
        return (*(order,) * full, *((rest,) if rest else ()))
    if order == 2 and rule == "fill_low" and nfe % 2 == 0:
        return (*(2,) * (nfe // 2 - 1), 1, 1)
    if order == 3:
        full, rest = divmod(nfe, 3)
        return (*(3,) * (full - 1), 2, 1) if rest == 0 else (*(3,) * full, rest)
    if order == 2:
        return (*(2,) * (nfe // 2), *(1,) * (nfe % 2))
    return (1,) * nfe


def singlestep(
    b: PlanBuilder,
    blocks: Sequence[tuple[Node, ...]],
    end: Node,
    kind: str,
    *,
    correction: str = "midpoint",
    lows: Sequence[Node] | None = None,
    s_noise: float = 1.0,
) -> Plan:
    """Build the plan of ``blocks``, each ``(s,)``, ``(s, s1)`` or ``(s, s1, s2)``; a block ends
    where the next begins.

    ``lows``: nodes that the blocks go down to first; fresh noise (times ``s_noise``) then raises
    the state to the block's end.
    """
    b.nodes = (
        *(() if not b.nodes or b.nodes[0] == blocks[0][0] else b.nodes[:1]),
        *(block[0] for block in blocks),
        end,
    )
    ends = [*(block[0] for block in blocks[1:]), end]
    x = b.start(blocks[0][0])
    for block, t, low in zip(blocks, ends, lows or ends, strict=True):
        x = b.at(low, _block(b, x, block, low, kind, correction))
        if low != t:
            fresh = t.alpha * math.sqrt(t.rho**2 - low.rho**2)
            x = b.at(t, (t.alpha / low.alpha) * x + (fresh * s_noise) * b.noise(block[0], t))
    return b.finish(x)


def _block(
    b: PlanBuilder,
    x: Expression,
    block: tuple[Node, ...],
    t: Node,
    kind: str,
    correction: str = "midpoint",
) -> Expression:
    s, exact = block[0], correction == "exact"
    m = b.evaluate(x, s, kind)

    def interpolated(
        node: Node, nodes: Sequence[Node], values: Sequence[Expression], moment: str | None = None
    ) -> Expression:
        w = weights(s, node, nodes, kind, moment=moment)
        return w.carry * x + dot(w.values, values)

    if len(block) == 1:
        return interpolated(t, [s], [m])
    s1 = block[1]
    m1 = b.evaluate(b.at(s1, interpolated(s1, [s], [m])), s1, kind)
    if len(block) == 2:
        return interpolated(t, [s, s1], [m, m1], None if exact else "half")
    s2 = block[2]
    m2 = b.evaluate(
        b.at(
            s2,
            interpolated(s2, [s, s1], [m, m1], "half" if correction == "midpoint_compat" else None),
        ),
        s2,
        kind,
    )
    return interpolated(t, [s, s1, s2], [m, m1, m2]) if exact else interpolated(t, [s, s2], [m, m2])


@dataclass(frozen=True)
class Singlestep:
    """Options of singlestep DPM-Solver.

    ``r1``, ``r2``: positions of the stages in lam, as fractions of the step (third order requires
    r2 = 2/3). ``correction``: midpoint (dpmsolver), exact (taylor), or midpoint_compat (midpoint
    with ``mu/2`` in the third-order stage too, as in diffusers; the stage error of h^3 does not
    change the order). ``blocks``: ``full``, or ``fill``, ``fill_low``, ``fill_high`` where each
    grid interval is one evaluation (``fill_orders``). ``orders``: the order of the block in each
    interval; replaces ``blocks`` (DPM-Solver-fast on a grid uniform in lam is
    ``orders=(3, 3, ..., 2, 1)``).
    """

    r1: float | None = None
    r2: float = 2 / 3
    correction: str = option(
        "midpoint", also=("solver_type",), words={**CORRECTIONS, "half": "midpoint_compat"}
    )
    blocks: str = "full"
    orders: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.r1 is not None:
            number("r1", self.r1, 1e-3, 1.0)
        number("r2", self.r2, 1e-3, 1.0)
        choice("correction", self.correction, ("midpoint", "exact", "midpoint_compat"))
        choice("blocks", self.blocks, ("full", "fill", "fill_low", "fill_high"))
        _check_orders(self)


def _check_orders(options: Singlestep | DPMFast) -> None:
    object.__setattr__(options, "orders", tuple(options.orders))
    for k in options.orders:
        integer("orders", k, 1, 3)


def _given_orders(orders: tuple[int, ...], grid: Grid) -> tuple[int, ...]:
    if len(orders) != grid.steps:
        raise ArgumentError(
            f"orders={orders}: {len(orders)} blocks for {grid.steps} grid intervals"
        )
    return orders


def _blocks(grid: Grid, order: int, options: Singlestep) -> list[tuple[Node, ...]]:
    if options.blocks != "full" and not options.orders:
        out, i = [], 0
        for k in fill_orders(order, grid.steps, options.blocks):
            out.append(tuple(grid[j] for j in range(i, i + k)))
            i += k
        # h is infinite at sigma = 0: the last evaluation is a first-order block
        if grid[-1].sigma == 0.0 and len(out[-1]) > 1:
            out[-1:] = [out[-1][:-1], out[-1][-1:]]
        return out
    orders = _given_orders(options.orders or (order,) * grid.steps, grid)
    out = []
    for (s, t), k in zip(grid.pairs(), orders, strict=True):
        out.append(_stages(grid, s, t, 1 if t.sigma == 0.0 else k, options.r1, options.r2))
    return out


def _stages(
    grid: Grid, s: Node, t: Node, order: int, r1: float | None = None, r2: float = 2 / 3
) -> tuple[Node, ...]:
    """Nodes at which a block of ``order`` from s to t is evaluated."""
    first = r1 if r1 is not None else (0.5 if order == 2 else 1 / 3)
    return s, *(grid.at_lam(s.lam + r * (t.lam - s.lam)) for r in (first, r2)[: order - 1])


def _plan(b: PlanBuilder, grid: Grid, order: int, kind: str, options: Singlestep) -> Plan:
    return singlestep(
        b, _blocks(grid, order, options), grid[-1], kind, correction=options.correction
    )


def _fill(nfe: int, options: Singlestep | DPMFast) -> tuple[int, Singlestep | DPMFast]:
    """Options for ``nfe`` evaluations: one per grid interval, in blocks of the highest possible
    order; if ``orders`` is given, its intervals."""
    if options.orders:
        return len(options.orders), options
    return nfe, replace(options, blocks="fill") if options.blocks == "full" else options


@register("dpm_solver_1", order=1, source="Lu et al. 2022, arXiv 2206.00927, eq. 3.7")
def dpm_solver_1(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """DPM-Solver-1 (equal to DDIM)."""
    return singlestep(b, [(s,) for s, _ in grid.pairs()], grid[-1], "eps")


_SECOND = ({"correction": "exact"}, {"r1": 0.3})
_THIRD = (
    {"correction": "exact"},
    {"correction": "midpoint_compat"},
    {"r1": 0.45},
    {"r1": 0.45, "correction": "exact"},
)


@register(
    "dpm_solver_2",
    order=2,
    source="Lu et al. 2022, arXiv 2206.00927, Alg. 1",
    fill=_fill,
    variants=_SECOND,
)
def dpm_solver_2(b: PlanBuilder, grid: Grid, options: Singlestep) -> Plan:
    """DPM-Solver-2: noise form, two evaluations per step."""
    return _plan(b, grid, 2, "eps", options)


@register(
    "dpm_solver_3",
    order=3,
    source="Lu et al. 2022, arXiv 2206.00927, Alg. 2",
    fill=_fill,
    variants=_THIRD,
)
def dpm_solver_3(b: PlanBuilder, grid: Grid, options: Singlestep) -> Plan:
    """DPM-Solver-3: noise form, three evaluations per step."""
    return _plan(b, grid, 3, "eps", options)


@register(
    "dpmpp_2s",
    order=2,
    source="Lu et al. 2022, arXiv 2211.01095, Alg. 1",
    fill=_fill,
    variants=_SECOND,
)
def dpmpp_2s(b: PlanBuilder, grid: Grid, options: Singlestep) -> Plan:
    """DPM-Solver++ 2S: data form, two evaluations per step."""
    return _plan(b, grid, 2, "x0", options)


@register(
    "dpmpp_3s",
    order=3,
    source="Lu et al. 2022, arXiv 2211.01095, third-order singlestep",
    fill=_fill,
    variants=_THIRD,
)
def dpmpp_3s(b: PlanBuilder, grid: Grid, options: Singlestep) -> Plan:
    """DPM-Solver++ 3S: data form, three evaluations per step."""
    return _plan(b, grid, 3, "x0", options)


@register(
    "dpm2",
    order=2,
    source="Karras et al. 2022, arXiv 2206.00364; k-diffusion",
    tau=stochastic,
    allow="signal",
    variants=({"s_churn": 2.0},),
)
def dpm2(b: PlanBuilder, grid: Grid, options: Churn) -> Plan:
    """DPM2 with optional churn: midpoint in log rho on the noise prediction (DPM-Solver-2 with r1 =
    1/2), Euler in the last step to sigma = 0."""
    x, jump = b.start(grid[0]), lifter(b, grid, options)
    for s, t in grid.pairs():
        x, up = jump(x, s)
        block = (up,) if t.sigma == 0.0 else (up, grid.at_lam(up.lam + 0.5 * (t.lam - up.lam)))
        x = b.at(t, _block(b, x, block, t, "eps"))
    return b.finish(x)


@dataclass(frozen=True)
class DPMFast:
    """Options of DPM-Solver-fast.

    ``tau``: strength of the fresh noise, as in Euler ancestral; ``s_noise``: factor on it.
    ``blocks``: ``full``, a block of order 3 in every grid interval, or ``fill``, one evaluation per
    grid interval (used by ``nfe=``). ``orders``: the order of each interval's block; replaces
    ``blocks``.
    """

    tau: float = option(0.0, also=("eta",))
    s_noise: float = 1.0
    blocks: str = "full"
    orders: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        number("tau", self.tau, 0.0, 10.0)
        number("s_noise", self.s_noise, 0.0, 10.0)
        choice("blocks", self.blocks, ("full", "fill"))
        _check_orders(self)


@register(
    "dpm_fast",
    order=3,
    source="Lu et al. 2022, arXiv 2206.00927, app. D (DPM-Solver-fast); Katherine Crowson, "
    "k-diffusion",
    tau=lambda o: min(o.tau, 1.0),
    allow="signal",
    fill=_fill,
    variants=({"tau": 1.0}, {"tau": 0.5}),
)
def dpm_fast(b: PlanBuilder, grid: Grid, options: DPMFast) -> Plan:
    """DPM-Solver-fast: equal blocks of order 3, then 2 and 1, that use exactly the given number of
    evaluations.

    With ``nfe=n, grid="lam", final="sigma_min"`` this is k-diffusion's ``sample_dpm_fast(n)``: all
    blocks have the same length in lam, for every order. On other grids the ends of blocks are
    interpolated in lam between the nodes. A step to sigma = 0 is a separate block of order 1. With
    tau > 0 a block ends at the noise level of an Euler ancestral step (not below the last level
    above sigma = 0), and noise is then added. The order of the blocks also holds for the law of the
    samples, because the exact ODE followed by this noise keeps the marginals.
    """
    finite = grid.steps - (grid[-1].sigma == 0.0)
    filled = fill_orders(3, finite) if options.blocks == "fill" and finite else (3,) * finite
    orders = _given_orders(options.orders, grid)[:finite] if options.orders else filled
    edges = [_at_fraction(grid, finite * k / max(len(orders), 1)) for k in range(len(orders) + 1)]
    lows = [lower_level(grid, s, t, options.tau, edges[-1]) for s, t in pairwise(edges)]
    blocks = [_stages(grid, s, low, k) for s, low, k in zip(edges[:-1], lows, orders, strict=True)]
    if grid[-1].sigma == 0.0:
        blocks.append((edges[-1],))
        lows.append(grid[-1])
    return singlestep(b, blocks, grid[-1], "eps", lows=lows, s_noise=options.s_noise)


def _at_fraction(grid: Grid, place: float) -> Node:
    """Node at a fractional index of the grid, interpolated in lam."""
    i = round(place)
    if abs(place - i) < 1e-9:
        return grid[i]
    i = int(place)
    s, t = grid[i], grid[i + 1]
    return grid.at_lam(s.lam + (place - i) * (t.lam - s.lam))


def lower_level(grid: Grid, s: Node, t: Node, tau: float, last: Node) -> Node:
    """Node where the deterministic part of an ancestral step from s to t ends, not below
    ``last``."""
    fresh = noise_share(s, t, tau) / t.alpha
    return (
        t
        if fresh == 0.0 or t == last
        else grid.at_rho(math.sqrt(max(t.rho**2 - fresh**2, last.rho**2)))
    )

"""DPM-Solver and DPM-Solver++ singlestep (Lu et al. 2022, arXiv 2206.00927 Alg. 1-2 and app. D; arXiv 2211.01095 Alg. 1).

A block of order k from s to t has stages at ``lam_s + r h``. With f(n) the one-node exponential step to n and m, m1, m2 the predictions

    x1 = f(s1)                          order 2: x_t = f(t) + mu/(2 r1) (m1 - m)              (or the exact two-node weight, "taylor")
    x2 = f(s2) + w(s2; s, s1)(m1 - m)   order 3: x_t = f(t) + w(t; s, s2)(m2 - m)             ("taylor": the quadratic through all three)

where w(n; s, k) is the weight of the second node. Order 3 needs r2 = 2/3. Blocks either span one grid interval each (``full``, stages at
r1, r2 in lam) or fill a budget: interval j of the grid is evaluation j, stages sit on grid nodes, leftover evaluations make lower blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..plans.builder import Lin, PlanBuilder, dot
from ..plans.instructions import Plan
from ..plans.weights import weights
from ..schedules.grids import Grid
from ..schedules.node import Node
from .options import choice, integer, number
from .registry import NoOptions, register


def fill_orders(order: int, nfe: int) -> tuple[int, ...]:
    """Block orders that spend exactly ``nfe`` evaluations, as DPM-Solver-fast does: full blocks, then lower ones at the end."""
    if order == 3:
        full, rest = divmod(nfe, 3)
        return (*(3,) * (full - 1), 2, 1) if rest == 0 else (*(3,) * full, rest)
    if order == 2:
        return (*(2,) * (nfe // 2), *(1,) * (nfe % 2))
    return (1,) * nfe


def singlestep(b: PlanBuilder, blocks: Sequence[tuple[Node, ...]], end: Node, kind: str, *, taylor: bool = False) -> Plan:
    """Write the plan of ``blocks``, each ``(s,)``, ``(s, s1)`` or ``(s, s1, s2)``; a block ends where the next begins."""
    b.nodes = (*(() if not b.nodes or b.nodes[0] == blocks[0][0] else b.nodes[:1]), *(block[0] for block in blocks), end)
    x = b.start(blocks[0][0])
    for block, t in zip(blocks, [*(block[0] for block in blocks[1:]), end], strict=True):
        x = b.at(t, _block(b, x, block, t, kind, taylor))
    return b.finish(x)


def _block(b: PlanBuilder, x: Lin, block: tuple[Node, ...], t: Node, kind: str, taylor: bool) -> Lin:
    s = block[0]
    m = b.evaluate(x, s, kind)

    def interpolated(node: Node, nodes: Sequence[Node], values: Sequence[Lin], moment: str | None = None) -> Lin:
        w = weights(s, node, nodes, kind, moment=moment)
        return w.carry * x + dot(w.values, values)

    if len(block) == 1:
        return interpolated(t, [s], [m])
    s1 = block[1]
    m1 = b.evaluate(b.at(s1, interpolated(s1, [s], [m])), s1, kind)
    if len(block) == 2:
        return interpolated(t, [s, s1], [m, m1], None if taylor else "half")
    s2 = block[2]
    m2 = b.evaluate(b.at(s2, interpolated(s2, [s, s1], [m, m1])), s2, kind)
    return interpolated(t, [s, s1, s2], [m, m1, m2]) if taylor else interpolated(t, [s, s2], [m, m2])


@dataclass(frozen=True)
class Singlestep:
    """Options of a singlestep method.

    ``r1``, ``r2``: stage positions in lam, as fractions of the step (r2 = 2/3 for third order). ``correction``: dpmsolver or taylor.
    ``blocks``: ``full``, or ``fill`` where every grid interval is one evaluation. ``orders``: the order of each interval's block, overrides
    ``blocks`` (DPM-Solver-fast on a uniform-lam grid is ``orders=(3, 3, ..., 2, 1)``).
    """

    r1: float | None = None
    r2: float = 2 / 3
    correction: str = "dpmsolver"
    blocks: str = "full"
    orders: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.r1 is not None:
            number("r1", self.r1, 1e-3, 1.0)
        number("r2", self.r2, 1e-3, 1.0)
        choice("correction", self.correction, ("dpmsolver", "taylor"))
        choice("blocks", self.blocks, ("full", "fill"))
        object.__setattr__(self, "orders", tuple(self.orders))
        for k in self.orders:
            integer("orders", k, 1, 3)


def _blocks(grid: Grid, order: int, options: Singlestep) -> list[tuple[Node, ...]]:
    if options.blocks == "fill" and not options.orders:
        out, i = [], 0
        for k in fill_orders(order, grid.steps):
            out.append(tuple(grid[j] for j in range(i, i + k)))
            i += k
        if grid[-1].sigma == 0.0 and len(out[-1]) > 1:  # h is infinite there: the last evaluation makes a first-order block
            out[-1:] = [out[-1][:-1], out[-1][-1:]]
        return out
    orders = options.orders or (order,) * grid.steps
    if len(orders) != grid.steps:
        raise ValueError(f"orders={orders}: {len(orders)} blocks for {grid.steps} grid intervals")
    out = []
    for (s, t), k in zip(grid.pairs(), orders, strict=True):
        k = 1 if t.sigma == 0.0 else k
        first = options.r1 if options.r1 is not None else (0.5 if k == 2 else 1 / 3)
        ratios = (0.0, first, options.r2)[:k]
        out.append((s, *(grid.at_lam(s.lam + r * (t.lam - s.lam)) for r in ratios[1:])))
    return out


def _plan(b: PlanBuilder, grid: Grid, order: int, kind: str, options: Singlestep) -> Plan:
    return singlestep(b, _blocks(grid, order, options), grid[-1], kind, taylor=options.correction == "taylor")


def _fill(nfe: int, options: Singlestep) -> tuple[int, Singlestep]:
    """Spend a budget: as many grid intervals as evaluations, in blocks as high as fit."""
    return nfe, options if options.orders else replace(options, blocks="fill")


@register("dpm_solver_1", order=1, source="Lu et al. 2022, arXiv 2206.00927, eq. 3.7")
def dpm_solver_1(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """DPM-Solver-1 (the same map as DDIM)."""
    return singlestep(b, [(s,) for s, _ in grid.pairs()], grid[-1], "eps")


_SECOND = ({"correction": "taylor"}, {"r1": 0.3})
_THIRD = ({"correction": "taylor"}, {"r1": 0.45}, {"r1": 0.45, "correction": "taylor"})


@register("dpm_solver_2", order=2, source="Lu et al. 2022, arXiv 2206.00927, Alg. 1", fill=_fill, variants=_SECOND)
def dpm_solver_2(b: PlanBuilder, grid: Grid, options: Singlestep) -> Plan:
    """DPM-Solver-2: noise form, two evaluations a step."""
    return _plan(b, grid, 2, "eps", options)


@register("dpm_solver_3", order=3, source="Lu et al. 2022, arXiv 2206.00927, Alg. 2", fill=_fill, variants=_THIRD)
def dpm_solver_3(b: PlanBuilder, grid: Grid, options: Singlestep) -> Plan:
    """DPM-Solver-3: noise form, three evaluations a step."""
    return _plan(b, grid, 3, "eps", options)


@register("dpmpp_2s", order=2, source="Lu et al. 2022, arXiv 2211.01095, Alg. 1", fill=_fill, variants=_SECOND)
def dpmpp_2s(b: PlanBuilder, grid: Grid, options: Singlestep) -> Plan:
    """DPM-Solver++ 2S: data form, two evaluations a step."""
    return _plan(b, grid, 2, "x0", options)


@register("dpmpp_3s", order=3, source="Lu et al. 2022, arXiv 2211.01095, third-order singlestep", fill=_fill, variants=_THIRD)
def dpmpp_3s(b: PlanBuilder, grid: Grid, options: Singlestep) -> Plan:
    """DPM-Solver++ 3S: data form, three evaluations a step."""
    return _plan(b, grid, 3, "x0", options)


@register("dpm2", order=2, source="Karras et al. 2022, arXiv 2206.00364; k-diffusion")
def dpm2(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """DPM2: midpoint in log rho on the noise prediction, Euler in the last step to sigma = 0 (DPM-Solver-2 with r1 = 1/2)."""
    return _plan(b, grid, 2, "eps", Singlestep())

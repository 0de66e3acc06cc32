"""The walk of RePaint over the nodes of a grid: down to the data, and some nodes up again."""

from __future__ import annotations

from collections.abc import Iterator

from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...samplers.singlestep.ancestral import ancestral_shares
from ...samplers.singlestep.churn import lift
from ...schedules.grids.construction import Grid


def travel(steps: int, length: int, repeats: int) -> Iterator[tuple[int, int]]:
    """Yield the moves (from node, to node) on a grid of ``steps`` steps, node 0 the noisiest.

    At every ``length``-th node, counted from the last but one, the walk goes up ``length`` nodes,
    ``repeats - 1`` times (Lugmayr et al. 2022, arXiv 2201.09865, algorithm 1 and its schedule).
    """
    last = steps - 1
    left = dict.fromkeys((last - k for k in range(0, steps - length, length)), repeats - 1)
    i = 0
    while i < steps:
        yield i, i + 1
        i += 1
        if left.get(i, 0) > 0:
            left[i] -= 1
            yield i, i - length
            i -= length


def repainted(grid: Grid, length: int, repeats: int, name: str) -> Plan:
    """Ancestral steps along the walk; up by fresh noise, in one move."""
    b = PlanBuilder(grid.nodes, name=name)
    x = b.start(grid[0])
    for i, j in travel(grid.steps, length, repeats):
        s, t = grid[i], grid[j]
        if j < i:
            x = lift(b, x, s, t, b.noise(s, t))
            continue
        e, fresh = ancestral_shares(s, t, 1.0)
        y = e * x + (t.alpha - e * s.alpha) * b.evaluate(x, s, "x0")
        x = b.at(t, y + fresh * b.noise(s, t) if fresh else y)
    return b.finish(x)

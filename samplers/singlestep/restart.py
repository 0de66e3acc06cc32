"""Restart sampling: adds noise and solves an interval again, several times (Xu et al. 2023, arXiv
2306.14878, Alg. 1).

The main grid uses Heun in rho. An interval starts at the node whose rho is nearest to its
``rho_min``. K times, noise is added up to rho_max,

    y <- y + sqrt(rho_max^2 - rho_i^2) s_noise z,

and Heun returns to that node on N_R Karras nodes (exponent 7) in N_R - 1 steps. Each repetition
costs 2 (N_R - 1) evaluations: ``nfe = 2 N - 1 + sum 2 K (N_R - 1)`` for N steps to sigma = 0. The
added noise is exact in law and contracts earlier errors. The steps of an interval keep their length
when the main grid is refined, so with an interval the method has no order in N (0 is declared).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from ...checks import ArgumentError, choice, integer, number
from ...plans.builder import Expression, PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..registry import register
from .churn import lift
from .frames import RhoFrame
from .runge_kutta import rk_step
from .tableau import TABLEAUS

#: an interval: (N_R, K, rho_min, rho_max)
Interval = tuple[int, int, float, float]

#: the paper's settings (N = 18 for cifar10, 36 for imagenet64, which has s_noise = 1.003)
PRESETS: dict[str, tuple[Interval, ...]] = {
    "cifar10": ((3, 2, 0.06, 0.30),),
    "imagenet64": (
        (4, 1, 19.35, 40.79),
        (4, 1, 1.09, 1.92),
        (4, 5, 0.59, 1.09),
        (4, 5, 0.30, 0.59),
        (6, 6, 0.06, 0.30),
    ),
}


@dataclass(frozen=True)
class Restart:
    """Options of Restart.

    ``intervals``: tuples (N_R nodes, K times, rho_min, rho_max), which replace the ``preset``
    (cifar10, imagenet64 or none); ``s_noise``: factor on the fresh noise (1 keeps the marginal).
    """

    preset: str = "cifar10"
    intervals: tuple[Interval, ...] = ()
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        choice("preset", self.preset, (*PRESETS, "none"))
        number("s_noise", self.s_noise, 0.0, 10.0)
        object.__setattr__(self, "intervals", tuple(tuple(interval) for interval in self.intervals))
        for interval in self.intervals:
            if len(interval) != 4:
                raise ArgumentError(
                    f"intervals: must be tuples (N_R, K, rho_min, rho_max), got {interval!r}"
                )
            integer("N_R", interval[0], 2, 1000)
            integer("K", interval[1], 1, 1000)
            number("rho_min", interval[2], 1e-9, 1e9)
            number("rho_max", interval[3], interval[2], 1e9)

    @property
    def chosen(self) -> tuple[Interval, ...]:
        """The intervals that are used."""
        return self.intervals or PRESETS.get(self.preset, ())


@register(
    "restart",
    order=lambda o: 0 if o.chosen else 2,
    tau=lambda o: math.inf if o.chosen else 0.0,
    source="Xu et al. 2023, arXiv 2306.14878, Alg. 1",
    allow="signal",
    variants=({"preset": "none"},),
)
def restart(b: PlanBuilder, grid: Grid, options: Restart) -> Plan:
    """Restart: Heun in rho, with intervals that are noised and solved again.

    An interval starts at the node nearest to its rho_min. It is omitted if no node with sigma > 0
    lies below its rho_max (few steps).
    """
    places = _places(grid, options)
    x, frame = b.start(grid[0]), RhoFrame(grid)
    for s, t in grid.pairs():
        x = rk_step(b, x, s, t, TABLEAUS["heun"], frame)
        for interval in places.get(t, ()):
            x = _again(b, x, t, grid, interval, options.s_noise)
    return b.finish(x)


def _places(grid: Grid, options: Restart) -> dict[Node, list[Interval]]:
    """Intervals by the node at which they start."""
    found: dict[Node, list[Interval]] = {}
    nodes = [node for node in grid.nodes[1:] if node.sigma > 0.0]
    for interval in options.chosen if nodes else ():
        place = min(nodes, key=lambda node: abs(node.rho - interval[2]))
        if place.rho < interval[3]:
            found.setdefault(place, []).append(interval)
    return found


def _again(
    b: PlanBuilder, x: Expression, low: Node, grid: Grid, interval: Interval, scale: float
) -> Expression:
    """Noise the state from ``low`` to rho_max and solve back to ``low``, K times."""
    count, times, _, rho_max = interval
    a, c = rho_max ** (1 / 7), low.rho ** (1 / 7)
    path = [
        *(
            grid.at_rho(rho_max if i == 0 else (a + i / (count - 1) * (c - a)) ** 7)
            for i in range(count - 1)
        ),
        low,
    ]
    frame = RhoFrame(grid)
    for _ in range(times):
        x = lift(b, x, low, path[0], b.noise(low, path[0]), scale)
        for s, t in pairwise(path):
            x = rk_step(b, x, s, t, TABLEAUS["heun"], frame)
    return x

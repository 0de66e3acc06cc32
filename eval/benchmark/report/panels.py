"""The plots of a model on the bench: one a grid, on one vertical scale, the best samplers in
colour; for the page and for a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..rows import Row
from ..runner import Bench
from .plot import Point, Series, chart, value_range
from .text import number, span

#: lines in colour; the others are grey
COLOURED = 6
#: the vertical axis of the solver error
ERROR = "RMSE to the converged end"


@dataclass(frozen=True)
class Panels:
    """SVG charts side by side, and what is to be said below them."""

    charts: tuple[str, ...]
    note: str


def colour_of(result: Bench, rows: Sequence[Row]) -> dict[str, int]:
    """A colour for the samplers that draw noise (they are few, and have the quality alone), and for
    those of least solver error on their better grid, on geometric average over the budgets."""
    noisy = list(dict.fromkeys(row.sampler for row in rows if row.stochastic))[: COLOURED // 3]
    least: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.rmse is not None and row.rmse > 0.0:
            mine = least.setdefault(row.sampler, {})
            mine[row.budget] = min(mine.get(row.budget, math.inf), math.log(row.rmse))
    full = max(map(len, least.values()), default=0)
    best = sorted((s for s in least if len(least[s]) == full), key=lambda s: sum(least[s].values()))
    return {name: k for k, name in enumerate([*best[: COLOURED - len(noisy)], *noisy])}


def panels(
    result: Bench,
    rows: Sequence[Row],
    colours: Mapping[str, int],
    what: str,
    value: str,
    floor: float | None = None,
) -> Panels:
    """``what`` (``rmse``, ``quality``) over network calls, with ``value`` as the name of its
    axis."""
    made: list[tuple[str, list[Series]]] = []
    for grid in result.settings.grids:
        lines = []
        for sampler in result.settings.samplers:
            mine = [
                row
                for row in rows
                if (row.sampler, row.grid) == (sampler, grid) and getattr(row, what) is not None
            ]
            if mine:
                lines.append(
                    Series(sampler, colours.get(sampler), tuple(_point(row, what) for row in mine))
                )
        if lines:
            made.append((grid, lines))
    limits = value_range([line for _, lines in made for line in lines], floor)
    drawn = tuple(
        chart(f"grid {grid}", lines, result.settings.nfes, value, limits, floor)
        for grid, lines in made
    )
    grey = any(line.colour is None for _, lines in made for line in lines)
    note = "Grey: the other samplers." if grey else ""
    if any(p.y <= limits[0] for _, lines in made for line in lines for p in line.points):
        note += " Hollow dots lie below the axis."
    return Panels(drawn, note.strip())


def _point(row: Row, what: str) -> Point:
    low, high = getattr(row, f"{what}_low"), getattr(row, f"{what}_high")
    value = float(getattr(row, what))
    return Point(
        float(row.nfe or row.budget),
        value,
        low,
        high,
        f"{row.sampler}, {row.nfe} calls: {number(value)} {span(low, high)}",
    )

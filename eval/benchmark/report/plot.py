"""Lines over network calls, on two logarithmic axes, as inline SVG: no fonts, no scripts, colours
from the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .escapes import escape

WIDTH, HEIGHT = 440.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 134.0, 26.0, 40.0
#: least distance of two labels, and length of one that fits
APART, LONGEST = 12.0, 19


@dataclass(frozen=True)
class Point:
    """A value over ``x`` network calls with its interval, and the text that a pointer over it
    shows."""

    x: float
    y: float
    low: float | None
    high: float | None
    title: str


@dataclass(frozen=True)
class Series:
    """A line; ``colour`` is a number of the page's palette, None for one of the many in grey, which
    gets no label."""

    label: str
    colour: int | None
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis from ``low`` to ``high`` that is drawn from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of ``value``, kept inside the axis."""
        span = math.log(self.high / self.low) or 1.0
        share = min(max(math.log(max(value, 1e-300) / self.low) / span, 0.0), 1.0)
        return round(self.start + share * (self.end - self.start), 2)


def value_range(series: Sequence[Series], floor: float | None = None) -> tuple[float, float]:
    """The range of all values and the floor, and of the intervals as far as they are positive and
    not far below."""
    values = [
        v for v in (floor, *(p.y for s in series for p in s.points)) if v is not None and v > 0.0
    ]
    if not values:
        return 0.1, 1.0
    least = min(values) / 3.0
    ends = [
        end
        for s in series
        for p in s.points
        for end in (p.low, p.high)
        if end is not None and end > least
    ]
    return min([*values, *ends]) / 1.15, max([*values, *ends]) * 1.15


def chart(
    title: str,
    series: Sequence[Series],
    budgets: Sequence[int],
    value: str,
    limits: tuple[float, float] | None = None,
    floor: float | None = None,
) -> str:
    """One panel; ``value`` names the vertical axis, ``limits`` its range where several panels share
    it, ``floor`` a level to mark."""
    low, high = value_range(series, floor) if limits is None else limits
    widest = max(max(budgets) / min(budgets), 1.2) ** 0.06
    x = Scale(min(budgets) / widest, max(budgets) * widest, LEFT, WIDTH - RIGHT)
    y = Scale(low, high, HEIGHT - BOTTOM, TOP)
    grey, coloured = (
        [s for s in series if s.colour is None],
        [s for s in series if s.colour is not None],
    )
    parts = [
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" '
        f'aria-label="{escape(f"{value} over network calls, {title}")}">'
    ]
    parts += [
        f'<text class="head" x="{LEFT:g}" y="14">{escape(title)}</text>',
        *_axes(x, y, budgets, value),
    ]
    if floor is not None and floor >= low:
        parts.append(
            f'<path class="floor" d="M{x.start:g} {y(floor):g}H{x.end:g}"><title>real data: '
            f"{floor:.3g}</title></path>"
        )
    for k, s in enumerate([*grey, *coloured]):
        parts.append(
            _line(
                s,
                x,
                y,
                1.6 * (k - len(grey) - (len(coloured) - 1) / 2) if s.colour is not None else 0.0,
            )
        )
    parts += _labels(coloured, y)
    return "".join([*parts, "</svg>"])


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between: 1, 2, 5 and their tenfolds, or the powers of ten alone over more than
    two decades."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 150.0 else (1,)
    return [v for k in decades for m in steps if low <= (v := m * 10.0**k) <= high]


def _axes(x: Scale, y: Scale, budgets: Sequence[int], value: str) -> list[str]:
    parts = []
    for tick in ticks(y.low, y.high):
        at = y(tick)
        parts.append(f'<path class="grid" d="M{x.start:g} {at:g}H{x.end:g}"/>')
        parts.append(
            f'<text class="tick" x="{x.start - 6:g}" y="{at + 4:g}" '
            f'text-anchor="end">{tick:g}</text>'
        )
    parts.append(f'<path class="axis" d="M{x.start:g} {y.start:g}H{x.end:g}"/>')
    free = -math.inf
    for budget in sorted(budgets):
        at = x(budget)
        parts.append(f'<path class="axis" d="M{at:g} {y.start:g}v4"/>')
        if at - free >= 16.0:
            parts.append(
                f'<text class="tick" x="{at:g}" y="{y.start + 16:g}" '
                f'text-anchor="middle">{budget}</text>'
            )
            free = at
    middle = (x.start + x.end) / 2
    parts.append(
        f'<text class="tick" x="{middle:g}" y="{HEIGHT - 6:g}" text-anchor="middle">network '
        "calls</text>"
    )
    across = (y.start + y.end) / 2
    parts.append(
        f'<text class="tick" text-anchor="middle" transform="translate(11 {across:g}) '
        f'rotate(-90)">{escape(value)}</text>'
    )
    return parts


def _line(s: Series, x: Scale, y: Scale, shift: float) -> str:
    """The line with its points and intervals, ``shift`` pixels to the right so that intervals do
    not hide each other."""
    style = "other" if s.colour is None else f"c{s.colour}"
    places = [(round(x(p.x) + shift, 2), y(p.y), p) for p in s.points]
    parts = [f'<g class="{style}">']
    if len(places) > 1:
        parts.append(f'<path class="line" d="M{" L".join(f"{a:g} {b:g}" for a, b, _ in places)}"/>')
    for a, b, p in places:
        if s.colour is not None and p.low is not None and p.high is not None:
            parts.append(f'<path class="bar" d="M{a:g} {y(p.low):g}V{y(p.high):g}"/>')
        size = 3 if s.colour is not None else 2
        hollow = "" if p.y > y.low else ' class="low"'
        parts.append(
            f'<circle{hollow} cx="{a:g}" cy="{b:g}" '
            f'r="{size}"><title>{escape(p.title)}</title></circle>'
        )
    return "".join([*parts, "</g>"])


def _labels(series: Sequence[Series], y: Scale) -> list[str]:
    """Names at the right, at the heights of the last points, moved apart."""
    wanted = sorted(
        ((y(s.points[-1].y), k, s) for k, s in enumerate(series) if s.points),
        key=lambda item: item[:2],
    )
    places: list[float] = []
    for at, _, _ in wanted:
        places.append(max(at, places[-1] + APART) if places else at)
    over = (places[-1] if places else 0.0) - y.start
    if over > 0.0:  # too low: move up from below
        for k in range(len(places) - 1, -1, -1):
            ceiling = y.start if k == len(places) - 1 else places[k + 1] - APART
            places[k] = min(places[k], ceiling)
    return [
        f'<text class="label c{s.colour}" x="{WIDTH - RIGHT + 8:g}" '
        f'y="{at + 4:g}">{escape(_short(s.label))}</text>'
        for at, (_, _, s) in zip(places, wanted, strict=True)
    ]


def _short(label: str) -> str:
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"


def cloud(points: Sequence[tuple[float, float]], reach: float, title: str) -> str:
    """A small scatter of points within ``reach`` of the origin."""
    inside = [(a, b) for a, b in points if abs(a) <= reach and abs(b) <= reach]
    dots = "".join(
        f'<circle cx="{50 + 48 * a / reach:.1f}" cy="{50 - 48 * b / reach:.1f}" r="1.6"/>'
        for a, b in inside
    )
    lost = len(points) - len(inside)
    note = (
        f'<text class="tick" x="50" y="97" text-anchor="middle">{lost} outside</text>'
        if lost
        else ""
    )
    return (
        f'<svg class="cloud" viewBox="0 0 100 100" role="img" aria-label="{escape(title)}"><g '
        f'class="dots">{dots}</g>{note}</svg>'
    )

"""The plots of a benchmark, drawn by matplotlib as SVG: error and quality over network calls, and
scatter plots of samples.

The same result gives the same bytes with one version of matplotlib: fixed ids, no date, default
settings whatever the user's are. Lines differ in marker and dash as well as in colour, so that they
can be told apart in black and white.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..result import Bench
from ..rows import Row
from .escapes import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Measure = Literal["rmse", "quality"]

#: colour (Okabe and Ito 2008, which colour-blind readers can tell apart), marker and dashes
STYLES: tuple[tuple[str, str, Any], ...] = (
    ("#0072b2", "o", "-"),
    ("#d55e00", "s", "--"),
    ("#009e73", "^", "-."),
    ("#cc79a7", "D", (0, (5, 1))),
    ("#000000", "v", ":"),
    ("#8a6d00", "P", (0, (3, 1, 1, 1))),
)
GREY, OTHERS = "#b0b0b0", "other samplers"
#: the vertical axis of the solver error, and its unit: that of the samples
ERROR = "solver error: RMSE to the\nconverged end points [unit of x]"
#: the units of the qualities
UNITS = {"SW2": "unit of x"}
#: matplotlib settings that differ from its defaults
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "fewstep",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
#: inches: widths of the labels at the left, of a panel and of the legend
LEFT, PANEL, LEGEND = 0.8, 3.2, 1.9
#: inches: height of a row of panels, of the title above and of the labels below
ROW, TOP, BOTTOM = 3.1, 0.3, 0.5
#: inches: side of a scatter plot and the title above it
SIDE, HEAD = 1.6, 0.4
#: scatter plots in a row
ACROSS = 5


@dataclass(frozen=True)
class Scatter:
    """One scatter plot: a title and points (n, 2)."""

    title: str
    points: Sequence[tuple[float, float]]


@contextmanager
def _defaults() -> Iterator[None]:
    """Draw with matplotlib's defaults and ``SETTINGS``; glyphs that its font lacks stay text."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def svg(figure: Figure) -> str:
    """Return the figure as SVG without date or version."""
    out = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(out, format="svg", metadata=nothing)
    return out.getvalue()


def lines_svg(result: Bench, model: str, measure: Measure) -> str:
    """Return ``measure`` of one model over network calls, one panel a grid, as SVG."""
    with _defaults():
        return svg(_stacked(result, [(model, measure)], titled=False))


def plots(result: Bench) -> str:
    """Return the panels of all models as one SVG: quality, where it was measured, and solver
    error."""
    rows = [(model, measure) for model in result.models for measure in measures(result, model)]
    with _defaults():
        return svg(_stacked(result, rows, titled=len(result.models) > 1))


def measures(result: Bench, model: str) -> tuple[Measure, ...]:
    """Return what was measured of a model: the quality, if there is one, then the solver error."""
    rated = any(row.model == model and row.quality is not None for row in result.rows)
    return ("quality", "rmse") if rated else ("rmse",)


def scatter_svg(plots: Sequence[Scatter], reach: float) -> str:
    """Return small scatter plots on common axes from -``reach`` to ``reach``, as SVG."""
    from matplotlib.figure import Figure

    with _defaults():
        across = min(len(plots), ACROSS)
        down = math.ceil(len(plots) / across)
        width, height = LEFT + SIDE * across, (SIDE + HEAD) * down + BOTTOM
        figure = Figure(figsize=(width, height))
        figure.subplots_adjust(
            left=LEFT / width,
            right=0.99,
            top=1.0 - HEAD / height,
            bottom=BOTTOM / height,
            wspace=0.08,
            hspace=HEAD / SIDE,
        )
        cells = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
        for cell, plot in zip(cells, plots, strict=False):
            _scatter(cell, plot, reach)
        for cell in cells[len(plots) - across : len(plots)]:  # the last of each column
            cell.tick_params(labelbottom=True)
        for cell in cells[len(plots) :]:
            cell.set_axis_off()
        figure.supxlabel("first coordinate of x", fontsize=8)
        figure.supylabel("second coordinate of x", fontsize=8)
        return svg(figure)


def _scatter(axes: Axes, plot: Scatter, reach: float) -> None:
    inside = [(a, b) for a, b in plot.points if abs(a) <= reach and abs(b) <= reach]
    axes.plot([a for a, _ in inside], [b for _, b in inside], "o", ms=1.6, color=STYLES[0][0])
    axes.set_title("\n".join(map(visible, plot.title.splitlines())), fontsize=7)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.tick_params(labelsize=6)
    if lost := len(plot.points) - len(inside):
        axes.text(0.5, 0.02, f"{lost} outside", ha="center", transform=axes.transAxes, fontsize=7)


def _stacked(result: Bench, wanted: Sequence[tuple[str, Measure]], titled: bool) -> Figure:
    """Return a figure with one row of panels, and their legend, for each model and measure."""
    from matplotlib.figure import Figure

    count, down = len(result.settings.grids), len(wanted)
    width, height = LEFT + PANEL * count + LEGEND, ROW * down
    figure = Figure(figsize=(width, height))
    cells = figure.add_gridspec(
        down,
        count + 1,
        left=LEFT / width,
        right=1.0,
        top=1.0 - TOP / height,
        bottom=BOTTOM / height,
        wspace=0.1,
        hspace=(TOP + BOTTOM) / (ROW - TOP - BOTTOM),
        width_ratios=[PANEL] * count + [LEGEND],
    )
    for k, (model, measure) in enumerate(wanted):
        row = [figure.add_subplot(cells[k, i]) for i in range(count + 1)]
        _panels(row[:-1], row[-1], result, model, measure)
        if titled:
            row[0].set_title(visible(f"{model}, {row[0].get_title()}"))
    return figure


def _panels(
    panels: Sequence[Axes], legend: Axes, result: Bench, model: str, measure: Measure
) -> None:
    """Draw ``measure`` of one model, one panel a grid, with a common vertical axis."""
    rows = [r for r in result.rows if r.model == model and getattr(r, measure) is not None]
    styles = styles_of(result, [r for r in result.rows if r.model == model])
    facts = result.models[model]
    floor = facts.floor if measure == "quality" else None
    ends = limits(rows, measure, floor)
    handles: dict[str, Line2D] = {}
    for axes, grid in zip(panels, result.settings.grids, strict=True):
        axes.set_title(visible(f"grid {grid}"))
        _scales(axes, result.settings.nfes, ends)
        if floor is not None and floor >= ends[0]:
            handles["real data"] = axes.axhline(floor, color="black", lw=0.8, ls=(0, (6, 4)))
        for sampler in result.settings.samplers:
            mine = [r for r in rows if r.method == (sampler, grid)]
            if mine:
                label = sampler if sampler in styles else OTHERS
                handles[label] = _line(axes, mine, measure, styles.get(sampler), ends[0])
        axes.tick_params(labelleft=axes is panels[0])
    panels[0].set_ylabel(ERROR if measure == "rmse" else _quality_axis(str(facts.metric)))
    below = any(getattr(r, measure) <= ends[0] for r in rows)
    _legend(legend, handles, [*styles, OTHERS, "real data"], below)


def _legend(axes: Axes, handles: Mapping[str, Line2D], order: Sequence[str], below: bool) -> None:
    """Draw the legend in axes of its own, in the order of ``order``."""
    names = [name for name in order if name in handles]
    axes.set_axis_off()
    axes.legend(
        [handles[name] for name in names],
        [visible(name) for name in names],
        title="hollow: below the axis" if below else None,
        title_fontsize=8.0,
        loc="center left",
        bbox_to_anchor=(0.0, 0.5),
        borderaxespad=0.0,
        fontsize=8,
        handlelength=3.2,
    )


def _quality_axis(metric: str) -> str:
    return f"{visible(metric)} [{UNITS.get(metric, 'squared unit of the features')}]"


def _scales(axes: Axes, budgets: Sequence[int], ends: tuple[float, float]) -> None:
    """Logarithmic axes with round numbers, and a faint grid."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = ends
    widest = max(max(budgets) / min(budgets), 1.2) ** 0.06
    axes.set_xscale("log")
    axes.set_yscale("log", nonpositive="clip")
    axes.set(xlim=(min(budgets) / widest, max(budgets) * widest), ylim=ends)
    axes.set_xticks(sorted(budgets), [str(b) for b in sorted(budgets)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 1e3 else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="#e0e0e0", lw=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("network calls per sample")


def _line(
    axes: Axes, rows: Sequence[Row], measure: Measure, style: int | None, low: float
) -> Line2D:
    """A line with 95 % intervals; grey and without intervals where it has no style.

    A value at or below ``low``, the end of the axis, is a hollow marker on the axis.
    """
    colour, marker, dashes = (GREY, "o", "-") if style is None else STYLES[style]
    shift = 1.0 if style is None else 1.006 ** (style - len(STYLES) / 2)
    x = [float(r.calls or r.nfe or r.budget) * shift for r in rows]
    values = [float(getattr(r, measure)) for r in rows]
    y = [max(value, low) for value in values]
    bars = [(getattr(r, f"{measure}_low"), getattr(r, f"{measure}_high")) for r in rows]
    top = 3 if style is not None else 1
    if style is not None and all(a is not None and b is not None for a, b in bars):
        down = [max(v - max(a, low / 2), 0.0) for v, (a, _) in zip(y, bars, strict=True)]
        up = [max(b - v, 0.0) for v, (_, b) in zip(y, bars, strict=True)]
        axes.errorbar(
            x, y, (down, up), fmt="none", ecolor=colour, elinewidth=1, capsize=2, zorder=top
        )
    (line,) = axes.plot(
        x,
        y,
        color=colour,
        ls=dashes,
        marker=marker,
        ms=4.5 if style is not None else 2.5,
        lw=1.4 if style is not None else 0.8,
        zorder=top,
    )
    below = [k for k, value in enumerate(values) if value <= low]
    axes.plot(
        [x[k] for k in below],
        [low] * len(below),
        color=colour,
        ls="",
        marker=marker,
        ms=4.5,
        mfc="white",
        clip_on=False,
        zorder=4,
    )
    return line


def styles_of(result: Bench, rows: Sequence[Row]) -> dict[str, int]:
    """Return a style for at most six samplers; the others are grey.

    They are those of least solver error on their better grid, by the geometric mean over the
    budgets, and up to two samplers that draw noise (which have a quality only).
    """
    noisy = list(dict.fromkeys(row.sampler for row in rows if row.stochastic))[: len(STYLES) // 3]
    least: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.rmse is not None and row.rmse > 0.0:
            mine = least.setdefault(row.sampler, {})
            mine[row.budget] = min(mine.get(row.budget, math.inf), math.log(row.rmse))
    full = max(map(len, least.values()), default=0)
    best = sorted((s for s in least if len(least[s]) == full), key=lambda s: sum(least[s].values()))
    return {name: k for k, name in enumerate([*best[: len(STYLES) - len(noisy)], *noisy])}


def limits(rows: Sequence[Row], measure: Measure, floor: float | None) -> tuple[float, float]:
    """Return the range of a logarithmic axis: all positive values, the floor, and the intervals
    down to a third of the least value."""
    found = [float(getattr(row, measure)) for row in rows]
    values = [v for v in (floor, *found) if v is not None and v > 0.0]
    if not values:
        return 0.1, 1.0
    least = min(values) / 3.0
    ends = [
        end
        for row in rows
        for end in (getattr(row, f"{measure}_low"), getattr(row, f"{measure}_high"))
        if end is not None and end > least
    ]
    return min([*values, *ends]) / 1.15, max([*values, *ends]) * 1.15

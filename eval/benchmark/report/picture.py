"""The plots of a benchmark as one SVG file that stands alone, for a README: light and dark as the
reader's screen is."""

from __future__ import annotations

from collections.abc import Sequence

from ..runner import Bench
from .escapes import escape
from .panels import ERROR, colour_of, panels
from .plot import HEIGHT, LEFT, WIDTH
from .style import PLOT_STYLE

#: height of a line of text, and the space around all
HEAD, EDGE = 24.0, 8.0


def picture(result: Bench) -> str:
    """For each model a row of quality panels, where it was measured, and a row of solver errors."""
    body: list[str] = []
    width, y = 0.0, EDGE
    for name, facts in result.models.items():
        if len(result.models) > 1:
            body.append(f'<text class="head" x="{EDGE:g}" y="{y + 14:g}">{escape(name)}</text>')
            y += HEAD
        rows = [row for row in result.rows if row.model == name]
        colours = colour_of(result, rows)
        rated = [row for row in rows if row.quality is not None]
        drawn = (
            [panels(result, rated, colours, "quality", str(facts.metric), facts.floor)]
            if rated
            else []
        )
        for row in [*drawn, panels(result, rows, colours, "rmse", ERROR)]:
            body += _placed(row.charts, y)
            width, y = (
                max(width, len(row.charts) * WIDTH),
                y + (HEIGHT + EDGE if row.charts else 0.0),
            )
            if row.note:
                body.append(
                    f'<text class="tick" x="{EDGE + LEFT:g}" '
                    f'y="{y + 6:g}">{escape(row.note)}</text>'
                )
                y += HEAD
    size = f"{width + 2 * EDGE:g} {y:g}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" '
        f'width="{width + 2 * EDGE:g}" height="{y:g}">'
    )
    ground = '<rect width="100%" height="100%" fill="var(--back)"/>'
    return f"{head}<style>{PLOT_STYLE}</style>{ground}{''.join(body)}</svg>\n"


def _placed(charts: Sequence[str], y: float) -> list[str]:
    """Charts side by side at height ``y``."""
    size = f'width="{WIDTH:g}" height="{HEIGHT:g}"'
    return [
        chart.replace("<svg ", f'<svg x="{EDGE + k * WIDTH:g}" y="{y:g}" {size} ', 1)
        for k, chart in enumerate(charts)
    ]

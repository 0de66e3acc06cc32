"""Scores as a table of text."""

from __future__ import annotations

from collections.abc import Mapping

from ..eval.scoring.ratings import Rating
from ..eval.scoring.scores import Scores
from ..jobs.metric_names import title

#: details left out of the lines below the table, and the names of others in them
SILENT = ("splits", "classes", "subset_size", "part_std")
SAID = {
    "perfect_model": "a perfect model would score about",
    "subset_std": "deviation of the subsets",
}
HEADS = ("metric", "value", "less its bias", "interval", "samples", "how")


def table(scores: Scores) -> str:
    """One row a metric, then the notes."""
    titles = {name: title(name, scores.generated) for name in scores.ratings}
    rows = [HEADS] + [_row(titles[name], rating) for name, rating in scores.ratings.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    for name, rating in scores.ratings.items():
        more = _details(rating.details)
        if rating.note or more:
            lines.append(
                f"{titles[name]}: {'; '.join(text for text in (rating.note, more) if text)}"
            )
    return "\n".join(lines)


def _row(name: str, rating: Rating) -> tuple[str, ...]:
    interval = (
        ""
        if rating.low is None or rating.high is None
        else f"{_number(rating.low)} to {_number(rating.high)}"
    )
    level = "" if rating.level is None or not interval else f" ({100 * rating.level:g} %)"
    less = "" if rating.corrected is None else _number(rating.corrected)
    return (
        name,
        _number(rating.value),
        less,
        interval + level,
        str(rating.n_gen or ""),
        rating.method or "",
    )


def _number(value: float) -> str:
    return f"{value:.4g}"


def _details(details: Mapping[str, float]) -> str:
    shown = {key: value for key, value in details.items() if key not in SILENT}
    return ", ".join(
        f"{SAID.get(key, key.replace('_', ' '))} {_number(value)}" for key, value in shown.items()
    )

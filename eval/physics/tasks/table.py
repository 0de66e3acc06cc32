"""A comparison of samplers on physical fields as a table in Markdown and as a record for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...benchmark.report.text import number, span
from ..rating.scores import FieldRating
from .measures import MEASURES
from .runner import TaskBench, numbers_of

HEADINGS = ("sampler", "grid", "nfe", *(name.replace("_", " ") for name in MEASURES), "ms a sample")


def table(result: TaskBench) -> str:
    """Return the Markdown table, the data's row first, with the definitions of its columns."""
    lines = [_line(HEADINGS), _line(["---"] * len(HEADINGS))]
    lines.append(_line(["data (float32)", "-", "-", *_cells(result.data), "-"]))
    for row in result.rows:
        head = [row.sampler, row.grid]
        if row.measures is None:
            lines.append(_line([*head, str(row.budget), f"skipped: {row.skipped}", *["-"] * 6]))
            continue
        nfe = str(row.nfe) if row.nfe == row.budget else f"{row.nfe} of {row.budget}"
        lines.append(_line([*head, nfe, *_cells(row.measures), number(row.milliseconds)]))
    return "\n".join([*lines, "", note(result), ""])


def note(result: TaskBench) -> str:
    """Return what the columns mean."""
    s = result.settings
    return (
        f"{s.samples} samples a row, {s.reference} solutions of the equation to compare with; "
        "brackets: 95 % intervals. relative residual: of the fields as sampled; relative l2: of "
        "the solution, against the solver's for the nearest admissible coefficient; energy "
        "distance and spread: coverage of the data (0 and 1 are theirs); log spectral distance: of "
        "the solution's spectrum to the data's mean spectrum; boundary error: of the solution."
    )


def record(result: TaskBench, command: str) -> dict[str, Any]:
    """Return the numbers, the settings and the command, for JSON."""
    return {
        "task": result.task,
        "command": command,
        "settings": result.settings.as_dict(),
        "data": numbers_of(result.data),
        "rows": [row.numbers() for row in result.rows],
    }


def _cells(measures: Mapping[str, FieldRating]) -> list[str]:
    return [
        number(m.value) + (f" {span(m.low, m.high)}" if m.low is not None else "")
        for m in (measures[name] for name in MEASURES)
    ]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"

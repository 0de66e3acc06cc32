"""A benchmark as Markdown, CSV and JSON; the page is ``report_page``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from textwrap import fill
from typing import Any

from ....files import write
from ..rows import HIDDEN, Row, place_text
from ..runner import Bench
from ..settings import parse_choice
from .escapes import code, plain, visible
from .page import page
from .picture import picture
from .text import answer_parts, lead_text, methods, number, reference_text, span, tie_note

#: width of the Markdown's prose
WRAP = 140
FILES = ("bench.md", "bench.csv", "bench.json", "index.html", "plots.svg")


def save_report(result: Bench, folder: str | Path, command: str = "") -> list[Path]:
    """Write the five files, each whole or not at all; ``command`` is printed in them as what made
    them."""
    bodies = (
        markdown(result, command),
        table_csv(result),
        record_json(result, command),
        page(result, command),
        picture(result),
    )
    paths = [Path(folder) / name for name in FILES]
    for path, body in zip(paths, bodies, strict=True):
        write(path, body.encode())
    return paths


def record(result: Bench, command: str = "") -> dict[str, Any]:
    """Everything but the pictures, as JSON has it."""
    facts = {
        name: {
            "metric": m.metric,
            "floor": m.floor,
            "reference_error": m.reference_error,
            "reference_nfe": m.reference_nfe,
            "note": m.note,
        }
        for name, m in result.models.items()
    }
    rows = [row.numbers() for row in result.rows]
    return {
        "command": command,
        "settings": result.settings.as_dict(),
        "models": facts,
        "rows": rows,
    }


def record_json(result: Bench, command: str = "") -> str:
    """``record`` as strict JSON."""
    return json.dumps(record(result, command), indent=1, allow_nan=False) + "\n"


def table_csv(result: Bench) -> str:
    """One line a row, all numbers in full; empty where there is none."""
    out = io.StringIO()
    names = [f.name for f in fields(Row) if f.name not in HIDDEN]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.numbers() for row in result.rows)
    return out.getvalue()


def markdown(result: Bench, command: str = "") -> str:
    """For each model: the winners, the solver error of every sampler and grid by budget, and the
    rows whose quality was measured."""
    lines = [f"Written by {code(command)}.", ""] if command else []
    for name in result.models:
        lines += [f"## {plain(name)}", "", fill(plain(lead_text(result, name)), WRAP), ""]
        for budget in result.settings.nfes:
            lines += [fill(f"- {answer_line(result, name, budget)}", WRAP, subsequent_indent="  ")]
        lines += [
            "",
            "### Solver error",
            "",
            fill(reference_text(result, name), WRAP),
            "",
            *_matrix(result, name),
            "",
        ]
        rated = [row for row in result.rows if row.model == name and row.quality is not None]
        if rated:
            head = f"### {plain(str(result.models[name].metric))}"
            lines += [
                head,
                "",
                fill(tie_note(result, name), WRAP),
                "",
                *_rated(result, name, rated),
                "",
            ]
        left = [row for row in result.rows if row.model == name and row.skipped is not None]
        lines += ["### Left out", "", *map(_left_out, left), ""] if left else []
    return "\n".join(lines).rstrip() + "\n"


def _left_out(row: Row) -> str:
    return f"- {plain(row.sampler)} on {plain(row.grid)} at {row.budget}: {plain(str(row.skipped))}"


def _matrix(result: Bench, model: str) -> list[str]:
    """Sampler and grid against budget; rank 1 in bold, the real number of calls where it is below
    the budget."""
    budgets = result.settings.nfes
    lines = [
        _line(["sampler", "grid", *(f"NFE {b}" for b in budgets)]),
        _line(["---"] * (2 + len(budgets))),
    ]
    for sampler, grid, rows in methods(result, model):
        lines.append(
            _line([plain(sampler), plain(grid), *(_error_cell(rows.get(b), b) for b in budgets)])
        )
    return lines


def _error_cell(row: Row | None, budget: int) -> str:
    if row is None or row.nfe is None:
        return "left out"
    if row.rmse is None:
        return "-"
    text = number(row.rmse) + ("" if row.nfe == budget else f" ({row.nfe})")
    return f"**{text}**" if row.rank == 1 else text


def _rated(result: Bench, model: str, rows: Sequence[Row]) -> list[str]:
    metric = str(result.models[model].metric)
    heads = [
        "NFE",
        "rank",
        "sampler",
        "grid",
        plain(metric),
        "95 % interval",
        "solver error",
        "ms a sample",
    ]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for row in sorted(
        rows, key=lambda row: (row.budget, row.quality_rank or 0, row.quality or 0.0)
    ):
        place = place_text(row.quality_rank, row.quality_tied)
        numbers = [
            number(row.quality),
            span(row.quality_low, row.quality_high),
            number(row.rmse),
            number(row.milliseconds),
        ]
        calls = str(row.budget) if row.nfe == row.budget else f"{row.budget} ({row.nfe})"
        lines.append(_line([calls, place, plain(row.sampler), plain(row.grid), *numbers]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def answer_line(result: Bench, model: str, budget: int, marked: bool = True) -> str:
    """The best at a budget, ties named; ``marked``: as Markdown."""
    found = answer_parts(result, model, budget)
    if found is None:
        return f"{budget} network calls: nothing was measured"
    mark, bold = (plain, "**") if marked else (visible, "")
    text = (
        f"{budget} network calls: {bold}{mark(found.sampler)}{bold} on the grid "
        f"{bold}{mark(found.grid)}{bold}, {found.value}"
    )
    text += f"; tied with {mark(found.others)}" if found.others else ""
    return text + (f". Least solver error: {mark(found.least)}" if found.least else "")


def code_line(row: Row, n: int = 64) -> str:
    """The call that draws with this row's sampler and grid."""
    sampler, grid = parse_choice(row.sampler), parse_choice(row.grid)
    model = f"den = fewstep.models.load({row.model!r})\n"
    if not grid.options:
        call = ", ".join(
            [repr(sampler.name), *(f"{key}={value!r}" for key, value in sampler.options.items())]
        )
        return (
            f"{model}x = fewstep.sample(den, {call}, nfe={row.budget}, grid={grid.name!r}, "
            f"n={n}, seed=0)"
        )
    more = "".join(f", {key}={value!r}" for key, value in grid.options.items())
    made = f"grid = fewstep.grid({grid.name!r}, den.schedule, {row.steps}{more})\n"
    return f"{model}{made}x = fewstep.sample(den, {row.call}, grid=grid, n={n}, seed=0)"

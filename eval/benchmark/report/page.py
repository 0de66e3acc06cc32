"""A benchmark as one HTML page that needs nothing else: plots as inline SVG, samples as data URIs,
light and dark."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from ..rows import Row, place_text
from ..runner import SHOWN, Bench
from .escapes import escape
from .panels import ERROR, Panels, colour_of, panels
from .plot import cloud
from .style import STYLE
from .text import answer_parts, lead_text, methods, number, reference_text, span, tie_note

WORD = ' class="word"'


def page(result: Bench, command: str = "") -> str:
    """The whole page, which is well-formed XML too."""
    models = list(result.models)
    made = f"<p>Made by <code>{escape(command)}</code></p>" if command else ""
    links = (
        " ".join(f'<a href="#model-{k}">{escape(name)}</a>' for k, name in enumerate(models))
        if len(models) > 1
        else ""
    )
    nav = f"<nav>{links}</nav>" if links else ""
    body = "".join(_model(result, name, k) for k, name in enumerate(models))
    settings = "\n".join(
        escape(line) for line in json.dumps(result.settings.as_dict(), indent=1).splitlines()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/><meta '
        'name="color-scheme" content="light dark"/>'
        f"<title>Samplers on {escape(', '.join(models))}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>Samplers on {escape(', '.join(models))}</h1>{made}{nav}\n{body}\n"
        f"<section><h2>Settings</h2><pre>{settings}</pre></section></body></html>\n"
    )


def _prose(text: str) -> str:
    """Text with its backquoted parts as code."""
    return "".join(
        f"<code>{escape(part)}</code>" if k % 2 else escape(part)
        for k, part in enumerate(text.split("`"))
    )


def _model(result: Bench, model: str, k: int) -> str:
    rows = [row for row in result.rows if row.model == model]
    colours = colour_of(result, rows)
    facts = result.models[model]
    parts = [
        "<section "
        f'id="model-{k}"><h2>{escape(model)}</h2><p>{_prose(lead_text(result, model))}</p>',
        _best(result, model),
    ]
    rated = [row for row in rows if row.quality is not None]
    if rated:
        metric = str(facts.metric)
        parts += [
            f"<h3>{escape(metric)} over network calls</h3>",
            _figure(panels(result, rated, colours, "quality", metric, facts.floor)),
        ]
        parts += [f"<p>{_prose(tie_note(result, model))}</p>", _quality_table(result, model, rated)]
    parts += [
        "<h3>Solver error over network calls</h3>",
        _figure(panels(result, rows, colours, "rmse", ERROR)),
    ]
    parts += [
        f"<p>{_prose(reference_text(result, model))}</p>",
        _error_table(result, model),
        _time_table(result, model),
    ]
    parts += [_pictures(result, model, rows), _left_out(rows), "</section>"]
    return "".join(parts)


def _best(result: Bench, model: str) -> str:
    lines = []
    for budget in result.settings.nfes:
        found = answer_parts(result, model, budget)
        if found is None:
            lines.append(f"<li>{budget} network calls: nothing was measured</li>")
            continue
        others = f"; tied with {escape(found.others)}" if found.others else ""
        others += f". Least solver error: {escape(found.least)}" if found.least else ""
        first = (
            f"<b>{escape(found.sampler)}</b> on <b>{escape(found.grid)}</b>, {escape(found.value)}"
        )
        lines.append(f"<li>{budget} network calls: {first}{others}</li>")
    return f"<h3>The best</h3><ul>{''.join(lines)}</ul>"


def _figure(drawn: Panels) -> str:
    note = f"{drawn.note} A pointer over a dot names it.".strip()
    return (
        "<figure><div "
        f'class="panels">{"".join(drawn.charts)}</div><figcaption>{note}</figcaption></figure>'
    )


def _table(heads: Sequence[str], body: Sequence[str], words: int) -> str:
    """A table in a box that scrolls sideways; the first ``words`` columns are text."""
    top = "".join(
        f"<th{WORD if k < words else ''}>{escape(head)}</th>" for k, head in enumerate(heads)
    )
    return (
        "<div "
        f'class="wide"><table><thead><tr>{top}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _matrix(result: Bench, model: str, cell: str) -> list[str]:
    body = []
    for sampler, grid, rows in methods(result, model):
        cells = [
            (_error_cell if cell == "error" else _time_cell)(rows.get(b), b)
            for b in result.settings.nfes
        ]
        body.append(
            f'<tr><td class="word">{escape(sampler)}</td><td '
            f'class="word">{escape(grid)}</td>{"".join(cells)}</tr>'
        )
    return body


def _error_table(result: Bench, model: str) -> str:
    return _table(
        ["sampler", "grid", *(f"NFE {b}" for b in result.settings.nfes)],
        _matrix(result, model, "error"),
        2,
    )


def _time_table(result: Bench, model: str) -> str:
    heads = ["sampler", "grid", *(f"NFE {b}" for b in result.settings.nfes)]
    table = _table(heads, _matrix(result, model, "time"), 2)
    return (
        "<details><summary>Wall time, milliseconds a sample</summary><p>As first measured, "
        f"in batches of at most {result.settings.batch}, "
        f"on whatever else the machine was doing.</p>{table}</details>"
    )


def _error_cell(row: Row | None, budget: int) -> str:
    if row is None or row.nfe is None:
        return f'<td class="faint" title="{escape(str(row.skipped if row else ""))}">left out</td>'
    if row.rmse is None:
        return '<td class="faint">-</td>'
    less = "" if row.nfe == budget else f" <small>({row.nfe})</small>"
    style = ' class="best"' if row.rank == 1 else ""
    tip = (
        f"rank {place_text(row.rank, row.tied)}, {span(row.rmse_low, row.rmse_high)}, {row.nfe} "
        "calls"
    )
    return f'<td{style} title="{escape(tip)}">{number(row.rmse)}{less}</td>'


def _time_cell(row: Row | None, budget: int) -> str:
    return f"<td>{number(row.milliseconds if row else None)}</td>"


def _quality_table(result: Bench, model: str, rows: Sequence[Row]) -> str:
    body = []
    for row in sorted(
        rows, key=lambda row: (row.budget, row.quality_rank or 0, row.quality or 0.0)
    ):
        calls = (
            str(row.budget) if row.nfe == row.budget else f"{row.budget} <small>({row.nfe})</small>"
        )
        words = "".join(
            f'<td class="word">{escape(text)}</td>'
            for text in (place_text(row.quality_rank, row.quality_tied), *row.method)
        )
        numbers = [
            number(row.quality),
            span(row.quality_low, row.quality_high),
            number(row.rmse),
            number(row.milliseconds),
        ]
        cells = "".join(f"<td>{escape(text)}</td>" for text in numbers)
        style = ' class="best"' if row.quality_rank == 1 else ""
        body.append(f'<tr{style}><td class="word">{calls}</td>{words}{cells}</tr>')
    heads = [
        "NFE",
        "rank",
        "sampler",
        "grid",
        str(result.models[model].metric),
        "95 % interval",
        "solver error",
        "ms a sample",
    ]
    return _table(heads, body, 4)


def _pictures(result: Bench, model: str, rows: Sequence[Row]) -> str:
    """The reference and every sampler on its better grid, the same seeds side by side, for each
    budget."""
    facts = result.models[model]
    if facts.picture is None and facts.points is None:
        return ""
    reach = 1.5 * max((max(abs(a), abs(b)) for a, b in facts.points or ()), default=1.0)
    parts = []
    for budget in result.settings.nfes:
        mine = [row for row in rows if row.budget == budget and row.nfe is not None]
        best: dict[str, Row] = {}
        for row in sorted(
            mine,
            key=lambda row: (row.rmse if row.rmse is not None else math.inf, row.quality or 0.0),
        ):
            best.setdefault(row.sampler, row)
        lines = [_shown("converged", "end points", facts.picture, facts.points, reach)]
        for row in best.values():
            words = f"{row.grid}, {row.nfe} calls" + (
                f", error {number(row.rmse)}" if row.rmse is not None else ""
            )
            lines.append(_shown(row.sampler, words, row.picture, row.points, reach))
        is_open = ' open="open"' if budget == result.settings.nfes[0] else ""
        style = "strips" if facts.picture is not None else "clouds"
        parts.append(
            f"<details{is_open}><summary>{budget} network calls</summary><div "
            f'class="{style}">{"".join(lines)}</div></details>'
        )
    what = (
        f"one column a seed, 0 to {min(SHOWN, result.settings.n) - 1}"
        if facts.picture is not None
        else "the same seeds in every picture"
    )
    return (
        "<h3>Samples</h3><p>Every sampler on its grid of least solver error; "
        f"{what}.</p>{''.join(parts)}"
    )


def _shown(
    head: str,
    words: str,
    picture: str | None,
    points: Sequence[tuple[float, float]] | None,
    reach: float,
) -> str:
    seen = (
        f'<img alt="samples of {escape(head)}" src="data:image/png;base64,{picture}"/>'
        if picture
        else ""
    )
    seen = cloud(points, reach, f"samples of {head}") if points else seen
    return (
        '<div class="row"><div '
        f'class="who"><b>{escape(head)}</b><br/><small>{escape(words)}</small></div>{seen}</div>'
    )


def _left_out(rows: Sequence[Row]) -> str:
    lines = [
        f"<li>{escape(f'{r.sampler} on {r.grid} at {r.budget}: {r.skipped}')}</li>"
        for r in rows
        if r.skipped is not None
    ]
    return (
        f"<details><summary>Left out ({len(lines)})</summary><ul>{''.join(lines)}</ul></details>"
        if lines
        else ""
    )

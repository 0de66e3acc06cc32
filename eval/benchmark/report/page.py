"""A benchmark as one HTML page, filled in by jinja2; plots and samples are data URIs, so the page
loads nothing."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..result import Bench
from ..rows import Row
from .escapes import visible
from .plots import Scatter, lines_svg, measures, scatter_svg
from .samples import SHOWN
from .tables import Table, error_table, quality_table, time_table
from .text import Answer, answer_parts, lead_text, number, reference_text, tie_note

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Strip:
    """Samples of one sampler: its name, the words below it, and a PNG in base64."""

    name: str
    words: str
    picture: str


@dataclass(frozen=True)
class Samples:
    """The samples at one budget: strips of images, or one scatter figure as a data URI."""

    budget: int
    strips: tuple[Strip, ...]
    scatter: str | None


@dataclass(frozen=True)
class Section:
    """The part of the page on one model; figures are data URIs."""

    name: str
    metric: str | None
    lead: str
    answers: tuple[tuple[int, Answer | None], ...]
    quality_figure: str | None
    quality_note: str
    qualities: Table | None
    error_figure: str
    error_note: str
    errors: Table
    times: Table
    samples: tuple[Samples, ...]
    skipped: tuple[Row, ...]


def page(result: Bench, command: str = "") -> str:
    """Return the whole page, which is well-formed XML too."""
    settings = json.dumps(result.settings.as_dict(), indent=1).splitlines()
    return (
        _environment()
        .get_template("bench.html")
        .render(
            command=command,
            sections=[_section(result, model) for model in result.models],
            settings=settings,
            batch=result.settings.batch,
            shown=min(SHOWN, result.settings.n),
        )
    )


@cache
def _environment() -> Environment:
    """Everything that a template prints is made visible and escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if hasattr(value, "__html__") else visible(str(value)),
    )
    environment.filters["prose"] = _prose
    return environment


def _prose(text: str) -> Markup:
    """Text with its backquoted parts as code."""
    from markupsafe import Markup

    parts = enumerate(visible(text).split("`"))
    return Markup("").join(Markup("<code>{}</code>").format(p) if k % 2 else p for k, p in parts)


def _uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _section(result: Bench, model: str) -> Section:
    rows = [row for row in result.rows if row.model == model]
    rated = [row for row in rows if row.quality is not None]
    figures = {m: _uri(lines_svg(result, model, m)) for m in measures(result, model)}
    return Section(
        name=model,
        metric=result.models[model].metric,
        lead=lead_text(result, model),
        answers=tuple((b, answer_parts(result, model, b)) for b in result.settings.nfes),
        quality_figure=figures.get("quality"),
        quality_note=tie_note(result, model),
        qualities=quality_table(result, model, rated) if rated else None,
        error_figure=figures["rmse"],
        error_note=reference_text(result, model),
        errors=error_table(result, model),
        times=time_table(result, model),
        samples=_samples(result, model, rows),
        skipped=tuple(row for row in rows if row.skipped is not None),
    )


def _samples(result: Bench, model: str, rows: Sequence[Row]) -> tuple[Samples, ...]:
    """For each budget the reference and every sampler on its better grid, on the same seeds."""
    facts = result.models[model]
    if facts.picture is None and facts.points is None:
        return ()
    reach = 1.5 * max((max(abs(a), abs(b)) for a, b in facts.points or ()), default=1.0)
    out = []
    for budget in result.settings.nfes:
        drawn: list[tuple[str, str, Any]] = [("converged", "end points", facts)]
        drawn += [(row.sampler, _words(row), row) for row in _better(rows, budget)]
        if facts.picture is not None:
            strips = tuple(Strip(a, b, x.picture) for a, b, x in drawn if x.picture is not None)
            out.append(Samples(budget, strips, None))
        else:
            plots = [Scatter(f"{a}\n{b}", x.points) for a, b, x in drawn if x.points is not None]
            out.append(Samples(budget, (), _uri(scatter_svg(plots, reach))))
    return tuple(out)


def _better(rows: Sequence[Row], budget: int) -> list[Row]:
    """Every sampler's row of least solver error at a budget, in ascending order."""
    mine = [row for row in rows if row.budget == budget and row.nfe is not None]
    best: dict[str, Row] = {}
    for row in sorted(
        mine, key=lambda r: (r.rmse if r.rmse is not None else math.inf, r.quality or 0.0)
    ):
        best.setdefault(row.sampler, row)
    return list(best.values())


def _words(row: Row) -> str:
    error = f", error {number(row.rmse)}" if row.rmse is not None else ""
    return f"{row.grid}, {number(row.calls)} calls{error}"

"""A benchmark as Markdown, CSV and JSON, and its files. The page and the plots need jinja2 and
matplotlib (the optional dependencies ``report``); the other files are written without them."""

from __future__ import annotations

import ast
import csv
import io
import json
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill
from typing import Any

from ....engine.automatic import AUTO
from ....files import write
from ....samplers import registry
from ....samplers.from_file import is_file
from ....samplers.kinds import kind_of
from ..calibration import skips_calls
from ..result import Bench
from ..rows import SHOWN, Row
from ..selection import NAME, choice_of, share
from ..settings import named_options
from .escapes import code, plain, visible
from .tables import Table, error_table, quality_table
from .text import answer_parts, lead_text, reference_text, tie_note

#: width of the Markdown's prose
WRAP = 140
#: file -> the libraries that it needs
FILES: dict[str, tuple[str, ...]] = {
    "bench.md": (),
    "bench.csv": (),
    "bench.json": (),
    "index.html": ("jinja2", "matplotlib"),
    "plots.svg": ("matplotlib",),
}


def save_report(
    result: Bench,
    folder: str | Path,
    command: str = "",
    notify: Callable[[str], None] = warnings.warn,
) -> list[Path]:
    """Write ``bench.md``, ``bench.csv``, ``bench.json``, ``index.html`` and ``plots.svg``.

    Each is written whole or not at all; ``command`` is printed in them as the command that made
    them. Without jinja2 or matplotlib the files that need them are left out, and ``notify`` is
    called with a sentence that says so. Returns the paths written.
    """
    absent = missing_text()
    if absent is not None:
        notify(absent)
    paths = [Path(folder) / name for name, needs in FILES.items() if not _absent(needs)]
    bodies = [_body(path.name, result, command) for path in paths]
    for path, body in zip(paths, bodies, strict=True):
        write(path, body.encode())
    return paths


def missing_text() -> str | None:
    """Return which files cannot be written for lack of which libraries; None if all can."""
    lost = {name: needs for name, needs in FILES.items() if _absent(needs)}
    if not lost:
        return None
    libraries = dict.fromkeys(name for needs in lost.values() for name in _absent(needs))
    are = "is" if len(libraries) == 1 else "are"
    return (
        f"{' and '.join(lost)} not written: {' and '.join(libraries)} {are} not installed; "
        'install them with pip install "fewstep[report]"'
    )


def _absent(needs: tuple[str, ...]) -> list[str]:
    return [name for name in needs if find_spec(name) is None]


def _body(name: str, result: Bench, command: str) -> str:
    """The text of one file; the libraries that it needs are there."""
    if name == "bench.md":
        return markdown(result, command)
    if name == "bench.csv":
        return table_csv(result)
    if name == "bench.json":
        return record_json(result, command)
    if name == "index.html":
        from .page import page

        return page(result, command)
    from .plots import plots

    return plots(result)


def record(result: Bench, command: str = "") -> dict[str, Any]:
    """Return settings, facts of the models and rows, without pictures, for JSON."""
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
    """Return ``record`` as strict JSON (no NaN)."""
    return json.dumps(record(result, command), indent=1, allow_nan=False) + "\n"


def table_csv(result: Bench) -> str:
    """Return the CSV: one line per row, numbers in full precision, empty cells for None."""
    out = io.StringIO()
    writer = csv.DictWriter(out, SHOWN, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.numbers() for row in result.rows)
    return out.getvalue()


def markdown(result: Bench, command: str = "") -> str:
    """Return the Markdown: for each model the best at each budget, the solver error of all samplers
    and grids, and the rows whose quality was measured."""
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
            *_table(error_table(result, name), bold=True),
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
                *_table(quality_table(result, name, rated)),
                "",
            ]
        left = [row for row in result.rows if row.model == name and row.skipped is not None]
        lines += ["### Left out", "", *map(_left_out, left), ""] if left else []
    return "\n".join(lines).rstrip() + "\n"


def _left_out(row: Row) -> str:
    return f"- {plain(row.sampler)} on {plain(row.grid)} at {row.budget}: {plain(str(row.skipped))}"


def _table(table: Table, bold: bool = False) -> list[str]:
    """A table in Markdown; ``bold`` marks the cells of rank 1."""
    lines = [_line([plain(head) for head in table.heads]), _line(["---"] * len(table.heads))]
    for row in table.body:
        texts = [plain(cell.whole) if k < table.words else cell.whole for k, cell in enumerate(row)]
        lines.append(
            _line([f"**{t}**" if bold and c.best else t for t, c in zip(texts, row, strict=True)])
        )
    return lines


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def answer_line(result: Bench, model: str, budget: int, marked: bool = True) -> str:
    """Return the best at a budget and the rows that tie; ``marked``: as Markdown."""
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
    """Return Python code that draws with this row's sampler and grid; of the automatic choice, with
    the sampler that it took."""
    sampler, grid = named_options(row.sampler), named_options(row.grid)
    model = f"den = fewstep.models.load({row.model!r})\n"
    if sampler.name == NAME:
        return _best_line(row, n)
    count = f"nfe={row.budget}"
    if row.steps and sampler.name != AUTO and not is_file(row.sampler):
        entry = registry.get(sampler.name) if sampler.name in registry.names() else None
        count = f"steps={row.steps}" if entry is not None and skips_calls(entry) else count
    if not grid.options:
        written = [f"{key}={value!r}" for key, value in sampler.options.items()]
        call = row.call if sampler.name == AUTO else ", ".join([repr(sampler.name), *written])
        return f"{model}x = fewstep.sample(den, {call}, {count}, grid={grid.name!r}, n={n}, seed=0)"
    more = "".join(f", {key}={value!r}" for key, value in grid.options.items())
    if grid.name == AUTO:  # its numbers depend on the sampler and the model
        model = f"from fewstep.engine.automatic import facts_of\n{model}"
        more = f", kind={_kind(str(row.call))!r}, facts=facts_of(den){more}"
    made = f"grid = fewstep.grid({grid.name!r}, den.schedule, {row.steps}{more})\n"
    return f"{model}{made}x = fewstep.sample(den, {row.call}, grid=grid, n={n}, seed=0)"


def _best_line(row: Row, n: int) -> str:
    """Code that draws as a best-of-n row does; the reward is the reader's."""
    particles, sampler, own = choice_of(named_options(row.sampler).options)
    grid = named_options(row.grid)
    more = f", sampler_options={own!r}" if own else ""
    more += f", grid={grid.name!r}" if not grid.options else ""
    return (
        f"den = fewstep.models.load({row.model!r})\n"
        f"x, _ = fewstep.guidance.steer(den, reward, method='best_of_n', particles={particles}, "
        f"sampler={sampler!r}{more}, nfe={share(row.budget, particles)}, n={n}, seed=0)"
    )


def _kind(call: str) -> str:
    """The kind of the sampler whose name and options are written in ``call``."""
    found = ast.parse(f"call({call})", mode="eval").body
    assert isinstance(found, ast.Call)
    name = ast.literal_eval(found.args[0])
    options = {str(each.arg): ast.literal_eval(each.value) for each in found.keywords}
    return kind_of(name, registry.make_options(registry.get(name), options))

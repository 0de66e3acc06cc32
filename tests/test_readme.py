"""The code of README.md and docs runs: Python blocks as they stand, `fewstep` lines through the
command line."""

from __future__ import annotations

import csv
import itertools
import json
import re
import shlex
import sys
from types import ModuleType

import pytest
from repository import ROOT

from fewstep.cli import main
from fewstep.samplers import names, registry
from fewstep.schedules.grids import registry as grids

#: the tables under docs/bench hold no code and link to nothing
PAGES = [
    "README.md",
    *(
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if "bench" not in path.relative_to(ROOT).parts
    ),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    (page, i, *found)
    for page in PAGES
    for i, found in enumerate(FENCE.findall((ROOT / page).read_text(encoding="utf-8")))
]
#: pages whose blocks need a pipeline on disk -> the test that runs them, one after another
CHAINED = {"docs/diffusers.md": "interop/diffusers/test_diffusers_examples.py"}
PYTHON = [
    (f"{page}-{i}", text)
    for page, i, language, text in BLOCKS
    if language == "python" and page not in CHAINED
]
#: pages whose command lines are quick; the lines of one block run in one folder, in order
QUICK = (
    "README.md",
    "docs/command_line.md",
    "docs/install.md",
    "docs/start.md",
    "docs/tutorials/scores.md",
)
#: a word in capitals stands for the reader's own file or folder
PLACEHOLDER = re.compile(r"(^|[ =])[A-Z][A-Z_]+( |$)")
#: page -> file -> text: blocks whose first line is the name of a file, which commands read
FILES: dict[str, dict[str, str]] = {}
for _page, _, _language, _text in BLOCKS:
    if _named := re.match(r"# (\w+\.(?:py|yaml))\n", _text):
        FILES.setdefault(_page, {})[_named[1]] = _text
COMMANDS = [
    (f"{page}-{i}", lines)
    for page, i, language, text in BLOCKS
    if page in QUICK
    and not language
    and (
        lines := [
            line
            for line in text.splitlines()
            if line.startswith("fewstep ")
            and not PLACEHOLDER.search(line.partition(" #")[0])
            and "cuda" not in line
        ]
    )
]


def test_there_is_something_to_run():
    assert len(PYTHON) >= 4
    assert {line.split()[1] for _, lines in COMMANDS for line in lines} >= {
        "generate",
        "solve",
        "score",
        "plan",
        "samplers",
        "certify",
    }
    for page, test in CHAINED.items():
        assert page in (ROOT / "tests" / test).read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "text"), PYTHON, ids=[name for name, _ in PYTHON])
def test_python_block(name, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # what a block registers goes with it
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(grids, "GRIDS", dict(grids.GRIDS))
    module = ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)  # torch.compile imports what it traces
    exec(compile(text, name, "exec", dont_inherit=True), module.__dict__)


@pytest.mark.parametrize(("name", "lines"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_commands(name, lines, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for file, text in FILES.get(name.rpartition("-")[0], {}).items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    for line in lines:
        assert main(shlex.split(line, comments=True)[1:]) == 0, line
        assert capsys.readouterr().out.strip(), line


def test_links_and_pictures_are_there():
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            path = ((ROOT / page).parent / target).resolve()
            # the API pages are made when the site is built, whose links are checked then
            made = path.is_relative_to(ROOT / "docs/api")
            assert made or path.exists(), f"{page} points to {target}"


def bench_rows(model):
    """(sampler, budget) -> the row of the benchmark on the grid ``auto``, and of its tuned plans
    as ``tuned``."""
    text = (ROOT / f"docs/bench/{model}/bench.csv").read_text(encoding="utf-8")
    found = {
        (row["sampler"], int(row["budget"])): row
        for row in csv.DictReader(text.splitlines())
        if row["grid"] == "auto"
    }
    tuned = (ROOT / "docs/bench/tuned/bench.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(tuned.splitlines()):
        if row["model"] == model and row["sampler"].startswith("file:") and row["rmse"]:
            found["tuned", int(row["budget"])] = {**row, "rank": ""}
    return found


@pytest.mark.parametrize("page", ["README.md", "docs/which_sampler.md"])
def test_the_solver_errors_are_those_of_the_benchmark(page):
    """Numbers in tables between the markers are those of docs/bench, bold where the row has rank
    1."""
    text = (ROOT / page).read_text(encoding="utf-8")
    table = text[text.index("<!-- bench: ") : text.index("<!-- end of bench")]
    head, _, *rows = [line for line in table.splitlines() if line.startswith("|")]
    columns = [cell.strip().split() for cell in head.strip("|").split("|")[1:]]
    found = {model: bench_rows(model) for model, _ in columns}
    assert len(rows) >= 8
    for line in rows:
        sampler, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        for (model, budget), cell in zip(columns, cells, strict=True):
            if sampler == "`tuned`" and cell == "-":
                assert ("tuned", int(budget)) not in found[model]
                continue
            row = found[model][sampler.strip("`"), int(budget)]
            number = f"{float(row['rmse']):.3g}"
            assert cell == (f"**{number}**" if row["rank"] == "1" else number), line


#: of a value and its interval in a row of the benchmark
ENDS = ("", "_low", "_high")


def tune_rows(after):
    """The cells of the first table of docs/tune.md after the words ``after``."""
    text = (ROOT / "docs/tune.md").read_text(encoding="utf-8")
    lines = text[text.index(after) :].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("|"))
    table = itertools.takewhile(lambda line: line.startswith("|"), lines[first + 2 :])
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_digits_of_the_page_of_tuning_are_those_of_the_benchmark():
    text = (ROOT / "docs/bench/tuned/held_out.csv").read_text(encoding="utf-8")
    found = {}
    for row in csv.DictReader(text.splitlines()):
        if row["rmse"]:
            name = "tuned" if row["sampler"].startswith("file:") else row["sampler"]
            found[row["budget"], f"`{name}`"] = [
                "{:.3g} [{:.3g}, {:.3g}]".format(*(float(row[key + end]) for end in ENDS))
                for key in ("rmse", "quality")
            ]
    rows = tune_rows("On 256 seeds of the benchmark")
    assert {(calls, name): cells for calls, name, *cells in rows} == found
    assert len(found) == 12


def test_the_errors_of_the_page_of_tuning_are_those_of_the_plan_files():
    rows = tune_rows("Errors on 64 trajectories")
    assert [row[0] for row in rows] == ["5", "8", "10"]
    for calls, untuned, *cells in rows:
        file = ROOT / f"docs/bench/tuned/{calls}.json"
        said = json.loads(file.read_text(encoding="utf-8"))["report"]
        assert untuned == f"`{said['untuned'].partition(' on ')[0]}`"
        both = [said["test"][name] for name in ("untuned", "tuned")]
        for cell, errors in zip(cells, both, strict=False):
            keys = ("median", "low", "high", "p90", "rmse")
            assert cell == "{:.3g} [{:.3g}, {:.3g}], {:.3g}, {:.3g}".format(*map(errors.get, keys))
        gains = (both[0][key] / both[1][key] for key in ("median", "rmse"))
        assert cells[2] == "{:.2f}, {:.2f}".format(*gains)
        assert cells[3] == f"{said['network_rows'] // 1000}k"


def test_every_sampler_is_certified():
    page = (ROOT / "docs/certificates.md").read_text(encoding="utf-8").splitlines()
    certified = [line.split("|")[1].strip() for line in page if line.endswith("| pass |")]
    assert set(names("plan")) <= set(certified)
    assert not [line for line in page if "FAIL" in line]

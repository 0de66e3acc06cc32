"""The tables of docs/referee.md hold the numbers of the committed rows."""

from __future__ import annotations

import csv
import re

import pytest
from repository import ROOT

from fewstep.eval.benchmark.settings import PRESETS

TEXT = (ROOT / "docs/referee.md").read_text(encoding="utf-8")
TABLES = re.findall(r"<!-- rows: (\w+) (\w+) -->\n(.*?)<!-- end of rows -->", TEXT, re.DOTALL)


@pytest.mark.parametrize(("model", "grid", "table"), TABLES, ids=[f"{m}-{g}" for m, g, _ in TABLES])
def test_the_numbers_are_those_of_the_rows(model, grid, table):
    file = ROOT / f"docs/bench/referee/{model}.csv"
    found = {
        (row["sampler"], int(row["budget"])): row
        for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())
        if row["grid"] == grid
    }
    head, _, *lines = [line for line in table.splitlines() if line.startswith("|")]
    budgets = [int(cell.split()[0]) for cell in head.strip("|").split("|")[1:]]
    wanted = [s for s in PRESETS["referee"]["samplers"] if not s.startswith("best_of_n")]
    assert [line.split("`")[1] for line in lines] == wanted
    for line in lines:
        sampler, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        for budget, cell in zip(budgets, cells, strict=True):
            row = found[sampler.strip("`"), budget]
            numbers = [float(text) for text in re.findall(r"[\d.]+(?:e-\d+)?", cell)]
            written = [float(row[name]) for name in ("rmse", "rmse_low", "rmse_high")]
            if float(row["calls"]) != budget:
                written.append(float(row["calls"]))
            assert numbers == pytest.approx(written, rel=6e-3), line
            assert cell.startswith("**") == (row["rank"] == "1"), line


def test_the_mixture_is_there_on_both_grids():
    assert {(model, grid) for model, grid, _ in TABLES} >= {
        ("mixture", "auto"),
        ("mixture", "karras"),
    }

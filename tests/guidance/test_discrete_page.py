"""docs/discrete.md lists every sampler of tokens as the registry describes it."""

from __future__ import annotations

import re

import pytest
from repository import ROOT

from fewstep.guidance import discrete as D

PAGE = (ROOT / "docs" / "discrete.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("`"): cells
    for line in PAGE.splitlines()
    if line.startswith("| `")
    and len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 6
}


def test_every_sampler_has_a_row():
    assert set(ROWS) == set(D.names())


@pytest.mark.parametrize("name", D.names())
def test_a_row_is_that_of_the_registry(name):
    _, papers, paths, options, log_prob, _ = ROWS[name]
    row = D.describe(name)
    assert all(number in row["source"] for number in re.findall(r"\d{4}\.\d{5}", papers))
    assert papers and paths == ("both" if len(row["paths"]) == 2 else row["paths"][0])
    assert re.findall(r"`(\w+)`", options) == list(row["options"])
    assert (log_prob == "exact") == (row["log_prob"] == "exact")

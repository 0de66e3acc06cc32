"""The table of methods in docs/solve.md is that of the registry."""

from __future__ import annotations

import re

from repository import ROOT

from fewstep import guidance as G
from fewstep.guidance.posterior import registry


def test_the_page_lists_every_method():
    page = (ROOT / "docs" / "solve.md").read_text(encoding="utf-8")
    table = page.partition("## Methods")[2].partition("\n\nAll but")[0]
    listed = re.findall(r"^\| `(\w+)`", table, re.MULTILINE)
    assert sorted(listed) == list(G.methods())


def test_every_method_has_a_source_and_a_summary():
    for name in G.methods():
        entry = registry.get(name)
        assert re.search(r"\d{4}\.\d{5}|OpenReview", entry.source), name
        assert len(entry.summary) > 40 and entry.form in registry.FORMS
        assert set(entry.needs) <= set(registry.NEEDS)

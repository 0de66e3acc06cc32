"""The table of methods in docs/solve.md is that of the registry."""

from __future__ import annotations

import re

import posterior_page

from fewstep import guidance as G
from fewstep.guidance.posterior import registry


def test_the_page_has_the_table():
    """Where this fails: python tests/guidance/posterior_page.py"""
    page = posterior_page.PAGE.read_text(encoding="utf-8")
    assert posterior_page.page_with(posterior_page.table()) == page


def test_every_method_has_a_source_and_a_summary():
    for name in G.methods():
        entry = registry.get(name)
        assert re.search(r"\d{4}\.\d{5}|OpenReview", entry.source), name
        assert len(entry.summary) > 40 and entry.form in registry.FORMS
        assert set(entry.needs) <= set(registry.NEEDS)

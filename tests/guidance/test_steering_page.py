"""The table of docs/steering.md is that of the code."""

from __future__ import annotations

import steering_table
from repository import ROOT

from fewstep import guidance


def test_the_page_has_the_table():
    """Where this fails: python tests/guidance/steering_table.py"""
    page = steering_table.PAGE.read_text(encoding="utf-8")
    assert steering_table.page_with(steering_table.table()) == page


def test_every_method_is_in_the_table_and_its_test_is_there():
    assert set(steering_table.ROWS) == set(guidance.steering_methods())
    folder = ROOT / "tests" / "guidance"
    for name, row in steering_table.ROWS.items():
        assert name in (folder / row.test).read_text(encoding="utf-8"), name

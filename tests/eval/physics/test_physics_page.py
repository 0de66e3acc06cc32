"""The table of docs/physics.md is that of the modules."""

from __future__ import annotations

import equation_table


def test_the_page_has_the_table():
    """Where this fails: the command in equation_table.py."""
    page = equation_table.PAGE.read_text(encoding="utf-8")
    assert equation_table.page_with(equation_table.table()) == page

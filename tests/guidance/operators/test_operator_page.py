"""The table of forward models in docs/solve.md is that of the operators."""

from __future__ import annotations

import inspect

import operator_page

from fewstep.guidance import operators


def test_the_page_has_the_table():
    """Where this fails: python tests/guidance/operators/operator_page.py"""
    page = operator_page.PAGE.read_text(encoding="utf-8")
    assert operator_page.page_with(operator_page.table()) == page


def test_every_operator_is_in_the_table():
    listed = {type(operator_page.made(call)).__name__ for call in operator_page.ROWS}
    public = {n for n in operators.__all__ if inspect.isclass(getattr(operators, n))}
    assert listed == public - {"Operator", "Spectrum"}


def test_the_columns_differ():
    """Each column has operators with and without."""
    columns = zip(*map(operator_page.cells, operator_page.ROWS), strict=True)
    assert all(len(set(column)) > 1 for column in columns)

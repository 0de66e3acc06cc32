"""The tables of a benchmark as cells of text, for the Markdown and for the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..result import Bench
from ..rows import HEADINGS, Row, place_text
from .text import methods, number, span


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: the number or the words.
        calls: the network calls made, in brackets, where they are fewer than the budget.
        best: the row has rank 1.
        tip: explanation, shown by a page under the pointer.
    """

    text: str
    calls: str = ""
    best: bool = False
    tip: str = ""

    @property
    def whole(self) -> str:
        """The text with the network calls."""
        return f"{self.text} {self.calls}" if self.calls else self.text


@dataclass(frozen=True)
class Table:
    """Column headings and rows of cells; the first ``words`` columns hold text, the others
    numbers."""

    heads: tuple[str, ...]
    body: tuple[tuple[Cell, ...], ...]
    words: int


def error_table(result: Bench, model: str) -> Table:
    """Return the solver error of every sampler and grid (rows) at every budget (columns)."""
    return _by_budget(result, model, _error_cell)


def time_table(result: Bench, model: str) -> Table:
    """Return the milliseconds a sample of every sampler and grid at every budget."""
    return _by_budget(result, model, lambda row, _: Cell(number(row.milliseconds if row else None)))


def _by_budget(result: Bench, model: str, cell: Callable[[Row | None, int], Cell]) -> Table:
    budgets = result.settings.nfes
    body = tuple(
        (Cell(sampler), Cell(grid), *(cell(rows.get(b), b) for b in budgets))
        for sampler, grid, rows in methods(result, model)
    )
    return Table(("sampler", "grid", *(f"NFE {b}" for b in budgets)), body, 2)


def _error_cell(row: Row | None, budget: int) -> Cell:
    if row is None or row.nfe is None:
        return Cell("left out", tip=str(row.skipped) if row else "")
    if row.rmse is None:
        return Cell("-")
    place = place_text(row.rank, row.tied)
    tip = f"rank {place}, {span(row.rmse_low, row.rmse_high)}, {number(row.calls)} calls"
    tip += "" if row.ran == row.sampler else f", {row.ran}"
    return Cell(number(row.rmse), _calls(row), row.rank == 1, tip)


def _calls(row: Row) -> str:
    calls = row.nfe if row.calls is None else row.calls
    return "" if calls == row.budget else f"({number(calls)})"


def quality_table(result: Bench, model: str, rows: Sequence[Row]) -> Table:
    """Return the rows whose quality was measured, by budget and rank."""
    metric = str(result.models[model].metric)
    heads = ("NFE", "rank", "sampler", "grid", metric, "95 % interval", *HEADINGS.values())
    ordered = sorted(rows, key=lambda r: (r.budget, r.quality_rank or 0, r.quality or 0.0))
    return Table(heads, tuple(map(_quality_cells, ordered)), 4)


def _quality_cells(row: Row) -> tuple[Cell, ...]:
    texts = (
        place_text(row.quality_rank, row.quality_tied),
        row.ran,
        row.grid,
        number(row.quality),
        span(row.quality_low, row.quality_high),
        *(number(getattr(row, name)) for name in HEADINGS),
    )
    best = row.quality_rank == 1
    return (
        Cell(str(row.budget), _calls(row), best),
        *(Cell(text, best=best) for text in texts),
    )

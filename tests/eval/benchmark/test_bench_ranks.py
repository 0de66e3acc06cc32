"""Ranks of a benchmark's rows, ties, intervals and winners, from numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewstep.eval.benchmark.report.text import number, span
from fewstep.eval.benchmark.rows import (
    Row,
    paired_ranks,
    place_text,
    ranked,
    ranks,
    root_interval,
    winners,
)


def test_ranks_by_intervals() -> None:
    """1 plus the intervals that end below; those that touch do not."""
    assert ranks([(0.0, 1.0), (0.5, 1.5), (1.1, 2.0), (3.0, 4.0)]) == [
        (1, True),
        (1, True),
        (2, False),
        (4, False),
    ]
    assert ranks([(1.0, 2.0), (0.0, 1.0)]) == [(1, True), (1, True)]
    assert ranks([(1.0 + 1e-12, 2.0), (0.0, 1.0)]) == [(2, False), (1, False)]


def test_the_interval_of_a_root() -> None:
    """The 2.5 % and 97.5 % quantiles of the bootstrap, widened by the reference's own error, never
    below 0."""
    squares = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    drawn = (
        squares[torch.randint(50, (1000, 50), generator=torch.Generator().manual_seed(0))]
        .mean(1)
        .sqrt()
        .numpy()
    )
    value, low, high = root_interval(squares, 0.01)
    assert value == pytest.approx(float(squares.mean().sqrt()))
    assert (low, high) == pytest.approx(
        (np.quantile(drawn, 0.025) - 0.01, np.quantile(drawn, 0.975) + 0.01), rel=1e-9
    )
    assert root_interval(squares, 10.0)[1] == 0.0


def test_ranks_of_pairs_leave_out_what_seeds_share() -> None:
    """Rows that differ by a tenth of what seeds differ by are told apart; an error of the reference
    of that size ties them."""
    common = 1.0 + 4.0 * torch.rand(
        64, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    squares = torch.stack(
        [
            common,
            1.21 * common,
            common
            * (1.0 + 1e-4 * torch.rand(64, generator=torch.Generator().manual_seed(2)) - 5e-5),
        ]
    )
    assert paired_ranks(squares, 0.0) == [(1, True), (3, False), (1, True)]
    gap = 0.1 * float(common.mean().sqrt())  # sqrt(1.21) - 1
    assert paired_ranks(squares[:2], 0.45 * gap) == [(1, False), (2, False)]
    assert paired_ranks(squares[:2], 0.55 * gap) == [(1, True), (1, True)]


def rows() -> tuple[Row, ...]:
    common = tuple(1.0 + 0.1 * k for k in range(32))

    def row(sampler: str, factor: float, quality: float, model: str = "a", budget: int = 8) -> Row:
        squares = tuple(factor * s for s in common)
        given = {"quality": quality, "quality_low": quality - 0.1, "quality_high": quality + 0.1}
        return Row(model, sampler, "lam", budget, nfe=budget, rmse=factor, squares=squares, **given)

    skipped = Row("a", "heun", "lam", 8, skipped="odd")
    return (
        row("x", 2.0, 1.0),
        row("y", 1.0, 1.15),
        row("z", 4.0, 3.0),
        skipped,
        row("y", 9.0, 9.0, budget=4),
        row("x", 7.0, 7.0, model="b"),
    )


def test_rows_are_ranked_within_a_model_and_a_budget() -> None:
    found = ranked(rows(), {"a": 0.0, "b": 0.0})
    assert [(r.rank, r.tied) for r in found] == [
        (2, False),
        (1, False),
        (3, False),
        (None, False),
        (1, False),
        (1, False),
    ]
    assert [(r.quality_rank, r.quality_tied) for r in found] == [
        (1, True),
        (1, True),
        (3, False),
        (None, False),
        (1, False),
        (1, False),
    ]
    assert [r.sampler for r in winners(found, "a", 8)] == ["x", "y"]
    assert [r.sampler for r in winners(found, "a", 8, by="rmse")] == ["y"]
    assert winners(found, "b", 4) == []
    assert [place_text(*p) for p in ((1, True), (2, False), (None, False))] == ["1=", "2", "-"]


def test_numbers_of_tables_at_their_limits() -> None:
    """Plain from a thousandth to below 100,000, with an exponent outside."""
    values = (None, 0.0, 1e-3, 9.99e-4, 0.00105, 99999.0, 1e5, -0.5, -2e-4, 1234.5)
    assert [number(v) for v in values] == [
        "-",
        "0",
        "0.001",
        "9.99e-04",
        "0.00105",
        "99999",
        "1.00e+05",
        "-0.5",
        "-2.00e-04",
        "1234",
    ]
    assert number(0.123456, 4) == "0.1235" and number(1.23456e-7, 4) == "1.235e-07"
    assert (span(0.5, 2.0), span(None, 2.0), span(0.5, None)) == ("[0.5, 2]", "-", "-")

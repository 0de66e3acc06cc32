"""Rows of a benchmark's table: what was measured, ranks with ties, and the best at a budget.

A column is a field of ``Row``. ``column(by)`` names the measurement that fills it; what is kept on
disk, and what is measured again because a record lacks it, follows from the fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

#: the measurements: drawing the seeds of the solver error, and those of the quality
Kind = Literal["error", "quality"]


def column(by: Kind, default: Any = None, hidden: bool = False, heading: str = "") -> Any:
    """A field of ``Row`` that the measurement ``by`` fills.

    ``hidden``: not in the CSV and JSON tables. ``heading``: the field is a number and a column,
    with this heading, of the quality table in the Markdown and on the page.
    """
    return field(default=default, metadata={"by": by, "hidden": hidden, "heading": heading})


@dataclass(frozen=True)
class Row:
    """One sampler on one grid with at most ``budget`` network calls.

    Attributes:
        model, sampler, grid, budget: what was asked for, as it was written.
        nfe: network calls made, in ``steps`` grid steps; None where the row was skipped.
        calls: mean number of network calls of one sample; less than ``nfe`` for a driver that
            decides for each sample.
        call: sampler and options as arguments of ``fewstep.sample``, which may differ from those
            written (the choice of ``auto``, a budget spent in unequal steps).
        stochastic: the sampler draws noise, so no converged path exists to compare it with.
        rmse, rmse_low, rmse_high: root mean square distance to the converged end points, with a 95
            % interval over the seeds that includes the end points' own error; ``relative`` to the
            end points' root mean square.
        quality, quality_low, quality_high, quality_plain: see ``subject.Quality``; None where it
            was not measured.
        milliseconds: wall time per sample, when the row was first measured.
        squares: mean square distance of each seed.
        rank: 1 plus the number of rows of the same model and budget that are better on the same
            seeds, see ``paired_ranks``; ``quality_rank``: 1 plus the number of those whose interval
            ends below this one's.
        tied, quality_tied: another row has the same rank.
        skipped: why nothing was measured.
        picture: PNG of the first samples in a row, in base64; ``points``: samples of a model of
            points.
    """

    model: str
    sampler: str
    grid: str
    budget: int
    nfe: int | None = column("error")
    calls: float | None = column("error")
    steps: int | None = column("error")
    call: str | None = column("error")
    stochastic: bool = column("error", default=False)
    rmse: float | None = column("error", heading="solver error")
    rmse_low: float | None = column("error")
    rmse_high: float | None = column("error")
    relative: float | None = column("error")
    quality: float | None = column("quality")
    quality_low: float | None = column("quality")
    quality_high: float | None = column("quality")
    quality_plain: float | None = column("quality")
    milliseconds: float | None = column("error", heading="ms a sample")
    rank: int | None = None
    tied: bool = False
    quality_rank: int | None = None
    quality_tied: bool = False
    skipped: str | None = None
    picture: str | None = column("error", hidden=True)
    points: tuple[tuple[float, float], ...] | None = column("error", hidden=True)
    squares: tuple[float, ...] | None = column("error", hidden=True)

    @property
    def method(self) -> tuple[str, str]:
        """Sampler and grid."""
        return self.sampler, self.grid

    @property
    def ran(self) -> str:
        """The sampler as it was written; of the automatic choice also the one that it took."""
        if self.call is None or self.sampler.partition(":")[0] != "auto":
            return self.sampler
        taken = self.call.replace("'", "")
        return f"{self.sampler} ({taken})"

    def numbers(self) -> dict[str, Any]:
        """Return the columns that tables show."""
        return {k: v for k, v in asdict(self).items() if k in SHOWN}


#: columns of tables, in order
SHOWN = tuple(f.name for f in fields(Row) if not f.metadata.get("hidden"))
#: column -> its heading in the quality table
HEADINGS = {f.name: heading for f in fields(Row) if (heading := f.metadata.get("heading"))}
#: columns that hold a number or None, by their annotation
NUMBERS = frozenset(f.name for f in fields(Row) if str(f.type).split(" ")[0] in ("int", "float"))


def columns(kind: Kind) -> tuple[str, ...]:
    """Return the columns that a measurement fills."""
    return tuple(f.name for f in fields(Row) if f.metadata.get("by") == kind)


def root_interval(
    squares: Tensor, error: float, resamples: int = 1000
) -> tuple[float, float, float]:
    """Return the root of the mean of ``squares`` (n,) and its 95 % percentile bootstrap interval,
    widened by ``error`` on both sides."""
    generator = torch.Generator().manual_seed(0)
    drawn = (
        squares[torch.randint(len(squares), (resamples, len(squares)), generator=generator)]
        .mean(dim=1)
        .sqrt()
    )
    low, high = (float(drawn.quantile(p)) for p in (0.025, 0.975))
    return float(squares.mean().sqrt()), max(low - error, 0.0), high + error


def ranks(intervals: Sequence[tuple[float, float]]) -> list[tuple[int, bool]]:
    """Return for each interval (low, high) its rank, 1 plus the number of intervals that end below
    it, and whether another has that rank."""
    places = [1 + sum(high < low for _, high in intervals) for low, _ in intervals]
    return [(place, places.count(place) > 1) for place in places]


def paired_ranks(squares: Tensor, error: float, resamples: int = 1000) -> list[tuple[int, bool]]:
    """Return ranks and ties of rows by the root of the mean of their ``squares`` (rows, n), one
    column per seed.

    A row is better than another where, over resampled seeds, the 95 % interval of the difference of
    their roots lies beyond twice the ``error`` of the reference. All rows have the same seeds, so
    the variation that seeds cause in all rows alike cancels in the difference.
    """
    n = squares.shape[1]
    drawn = torch.randint(n, (resamples, n), generator=torch.Generator().manual_seed(0))
    roots = squares.double()[:, drawn].mean(dim=2).sqrt()
    # [i, j]: by how much i is worse than j
    least = torch.stack([(row[None] - roots).quantile(0.025, dim=1) for row in roots])
    places = [1 + int(row.sum()) for row in least > 2.0 * error]
    return [(place, places.count(place) > 1) for place in places]


def ranked(rows: Sequence[Row], errors: Mapping[str, float]) -> tuple[Row, ...]:
    """Return the rows with their ranks among those of the same model and budget; ``errors`` are
    those of the models' reference end points."""
    out = list(rows)
    for model, budget in {(row.model, row.budget) for row in rows}:
        mine = [i for i, row in enumerate(rows) if (row.model, row.budget) == (model, budget)]
        paths = [i for i in mine if rows[i].squares is not None]
        if paths:
            found = paired_ranks(
                torch.tensor([rows[i].squares for i in paths], dtype=torch.float64), errors[model]
            )
            for i, (place, tied) in zip(paths, found, strict=True):
                out[i] = replace(out[i], rank=place, tied=tied)
        intervals = [
            (i, low, high)
            for i in mine
            if (low := rows[i].quality_low) is not None
            and (high := rows[i].quality_high) is not None
        ]
        for (i, _, _), (place, tied) in zip(
            intervals, ranks([(low, high) for _, low, high in intervals]), strict=True
        ):
            out[i] = replace(out[i], quality_rank=place, quality_tied=tied)
    return tuple(out)


def winners(rows: Sequence[Row], model: str, budget: int, by: str = "quality") -> list[Row]:
    """Return the rows of rank 1 at a budget by ``quality`` or ``rmse``, sorted in ascending order;
    empty if nothing was measured."""
    place = "quality_rank" if by == "quality" else "rank"
    mine = [
        row
        for row in rows
        if row.model == model and row.budget == budget and getattr(row, place) == 1
    ]
    return sorted(mine, key=lambda row: float(getattr(row, by)))


def place_text(rank: int | None, tied: bool) -> str:
    """Return ``1``, ``1=`` for a shared rank, or ``-`` for None."""
    return "-" if rank is None else f"{rank}{'=' if tied else ''}"

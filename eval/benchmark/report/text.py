"""Sentences and numbers of a benchmark, for the Markdown and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..result import Bench
from ..rows import Row


def number(value: float | None, digits: int = 3) -> str:
    """Return ``value`` with three significant digits, without an exponent from 0.001 to 99,999;
    ``-`` for None."""
    if value is None:
        return "-"
    if value == 0.0 or 1e-3 <= abs(value) < 1e5:
        text = f"{value:.{digits}g}"
        return f"{value:.0f}" if "e" in text else text
    return f"{value:.{digits - 1}e}"


def span(low: float | None, high: float | None) -> str:
    """Return ``[low, high]``, or ``-`` if one is None."""
    return "-" if low is None or high is None else f"[{number(low)}, {number(high)}]"


def methods(result: Bench, model: str) -> list[tuple[str, str, Mapping[int, Row]]]:
    """Return sampler, grid and the rows by budget, in the order of the settings."""
    rows = [row for row in result.rows if row.model == model]
    pairs = dict.fromkeys(
        (sampler, grid) for sampler in result.settings.samplers for grid in result.settings.grids
    )
    return [(s, g, {row.budget: row for row in rows if row.method == (s, g)}) for s, g in pairs]


def lead_text(result: Bench, model: str) -> str:
    """Return one sentence on the samplers, grids and seeds of a model's tables."""
    s, facts = result.settings, result.models[model]
    text = f"{len(s.samplers)} samplers on {len(s.grids)} grids, {s.n} seeds for the solver error"
    if facts.metric is not None:
        text += f"; {facts.metric} on {s.samples} samples"
        text += (
            f" of the {s.top} rows of least solver error at each budget and of the samplers that "
            "draw noise"
            if s.top
            else " of all rows"
        )
    return text + (f". {facts.note}." if facts.note else ".")


def reference_text(result: Bench, model: str) -> str:
    """Return the definition of the solver error and the accuracy of its reference."""
    facts = result.models[model]
    return (
        "Solver error: root mean square distance to the model's converged probability-flow end "
        "points from the same start noise. The end points themselves are accurate to "
        f"{number(facts.reference_error)} ({facts.reference_nfe} network calls); every interval "
        "includes this error. Bold: rank 1 at that budget, i.e. no row is better on the same seeds "
        "(95 % interval of the difference). Brackets: network calls made, where fewer than the "
        "budget. `-`: the sampler draws noise or chooses among draws, so it has no end point to be "
        "compared with."
    )


def tie_note(result: Bench, model: str) -> str:
    """Return the definition of the quality and of its ranks."""
    facts = result.models[model]
    what = (
        "Sliced Wasserstein distance to exact draws, mean over disjoint parts."
        if facts.metric == "SW2"
        else "Frechet distance in the features of the bundled network (not FID), bias-corrected, "
        "so it may fall below 0 (the CSV has the plain distance too)."
    )
    floor = (
        ""
        if facts.floor is None
        else f" Real data against real data: {number(facts.floor)} (dashed in the plots)."
    )
    return (
        f"{what} Lower is better. Rank: 1 plus the number of rows at that budget whose interval "
        f"ends below this one's; `=` marks a tie.{floor}"
    )


@dataclass(frozen=True)
class Answer:
    """The best at a budget.

    Attributes:
        sampler, grid: the first of the rows of rank 1.
        value: the name of the measure, its number and its interval.
        others: the rows that tie with it; empty if none do.
        least: the rows of least solver error, if the best are by quality; else empty.
    """

    sampler: str
    grid: str
    value: str
    others: str
    least: str


def answer_parts(result: Bench, model: str, budget: int) -> Answer | None:
    """Return the best at a budget; None if nothing was measured."""
    best = result.best(budget, model)
    if not best:
        return None
    first, rated = best[0], best[0].quality is not None
    name = str(result.models[model].metric) if rated else "solver error"
    ends = (first.quality_low, first.quality_high) if rated else (first.rmse_low, first.rmse_high)
    least = result.best(budget, model, by="rmse") if rated else []
    return Answer(
        first.ran,
        first.grid,
        f"{name} {number(first.quality if rated else first.rmse)} {span(*ends)}",
        _listed(best[1:], rated),
        _listed(least, rated=False),
    )


def _listed(rows: Sequence[Row], rated: bool) -> str:
    """Rows as ``sampler on grid (number)``."""
    return ", ".join(
        f"{row.ran} on {row.grid} ({number(row.quality if rated else row.rmse)})" for row in rows
    )

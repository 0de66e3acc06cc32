"""The words and numbers that the Markdown and the page of a benchmark share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..result import Bench
from ..rows import Row


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits without needless exponents; ``-`` for None."""
    if value is None:
        return "-"
    if value == 0.0 or 1e-3 <= abs(value) < 1e5:
        text = f"{value:.{digits}g}"
        return f"{value:.0f}" if "e" in text else text
    return f"{value:.{digits - 1}e}"


def span(low: float | None, high: float | None) -> str:
    """``[low, high]``."""
    return "-" if low is None or high is None else f"[{number(low)}, {number(high)}]"


def methods(result: Bench, model: str) -> list[tuple[str, str, Mapping[int, Row]]]:
    """Sampler, grid and the rows by budget, in the order of the settings."""
    rows = [row for row in result.rows if row.model == model]
    pairs = dict.fromkeys(
        (sampler, grid) for sampler in result.settings.samplers for grid in result.settings.grids
    )
    return [(s, g, {row.budget: row for row in rows if row.method == (s, g)}) for s, g in pairs]


def lead_text(result: Bench, model: str) -> str:
    """What was measured."""
    s, facts = result.settings, result.models[model]
    text = f"{len(s.samplers)} samplers on {len(s.grids)} grids, {s.n} seeds for the solver error"
    if facts.metric is not None:
        text += f"; {facts.metric} on {s.samples} samples"
        text += (
            f" of the {s.top} rows of least solver error at each budget and of the samplers that draw noise"
            if s.top
            else " of all rows"
        )
    return text + (f". {facts.note}." if facts.note else ".")


def reference_text(result: Bench, model: str) -> str:
    """What the solver error is, and how sure its reference is."""
    facts = result.models[model]
    return (
        "Root mean square distance to the model's converged probability-flow end points from the same noises. The end points' own "
        f"error is {number(facts.reference_error)} ({facts.reference_nfe} network calls), and part of every interval. Bold: rank 1 at "
        "that budget: no row is better on the same seeds, by the 95 % interval of the difference. A number in brackets is the network "
        "calls made, where fewer fit the budget. `-`: the sampler draws noise and has no end point to be compared with."
    )


def tie_note(result: Bench, model: str) -> str:
    """What the quality is and what its ranks mean."""
    facts = result.models[model]
    floor = (
        ""
        if facts.floor is None
        else f" Real data against real data: {number(facts.floor)} (dashed in the plots)."
    )
    what = (
        "Sliced Wasserstein distance to exact draws, mean over disjoint parts."
        if facts.metric == "SW2"
        else "Frechet distance in the features of the bundled network (never FID), less the bias of its finite sample, so "
        "that it may fall below 0 (the CSV has both)."
    )
    return f"{what} Less is better. A rank is 1 plus the rows at that budget whose interval ends below; `=` marks a tie.{floor}"


@dataclass(frozen=True)
class Answer:
    """The best at a budget: who, its number in words, those that tie with it, and, of the best by
    quality, who has the least solver error (both empty: none)."""

    sampler: str
    grid: str
    value: str
    others: str
    least: str


def answer_parts(result: Bench, model: str, budget: int) -> Answer | None:
    """None where nothing was measured."""
    best = result.best(budget, model)
    if not best:
        return None
    rated = best[0].quality is not None
    name = str(result.models[model].metric) if rated else "solver error"
    first = best[0]
    low, high = (
        (first.quality_low, first.quality_high) if rated else (first.rmse_low, first.rmse_high)
    )
    others = ", ".join(
        f"{row.sampler} on {row.grid} ({number(row.quality if rated else row.rmse)})"
        for row in best[1:]
    )
    paths = result.best(budget, model, by="rmse") if rated else []
    least = ", ".join(f"{row.sampler} on {row.grid} ({number(row.rmse)})" for row in paths)
    return Answer(
        first.sampler,
        first.grid,
        f"{name} {number(first.quality if rated else first.rmse)} {span(low, high)}",
        others,
        least,
    )

"""Ratings of physical fields, each with the value of true solutions beside it.

A residual depends on the discretisation, and true solutions have one too: that of their own
discretisation, or of the rounding of the numbers they are stored in. And a low residual does not
say that the samples are those of the data's distribution. So the same metrics are computed of the
true solutions, and the coverage is rated beside them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from ....checks import ArgumentError, between
from ...scoring.intervals import normal_quantile
from ..equation import Equation, Fields, Params, Problem, Spacing
from .coverage import FEWEST, Components, FieldCoverage
from .measures import ENSEMBLE, MEASURES, Comparison, chosen
from .subject import Residual, Rules, Subject, rules_of

#: of true solutions and paired metrics, which compare each with another one
ANOTHER = "data: of another true solution"


@dataclass(frozen=True)
class FieldRating:
    """One metric of a set of samples.

    Attributes:
        value: the mean over the samples.
        std: standard deviation over the samples; of ``energy_distance`` its standard error. None
            for one sample.
        median: over the samples; None for metrics of the set as a whole.
        low, high: interval of confidence ``level`` of the mean, ``+- z std / sqrt(count)``.
        level, count: of the interval, and of samples.
        data: the rating of the true solutions; None without.
        ratio: the value over theirs; None without, where theirs is 0, and for ``energy_distance``,
            which may have either sign.
        note: a caveat.
    """

    value: float
    std: float | None = None
    median: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    count: int = 0
    data: FieldRating | None = None
    ratio: float | None = None
    note: str | None = None


@dataclass(frozen=True, eq=False)
class FieldScores:
    """Result of ``rate``.

    Attributes:
        equation: its name.
        ratings: metric -> rating; ``scores["relative_residual"]`` is one of them.
        values: metric -> its value of each sample, (B,).
        count: number of samples; ``data_count`` of true solutions.
        notes: caveats about the whole.
    """

    equation: str
    ratings: Mapping[str, FieldRating]
    values: Mapping[str, Tensor]
    count: int
    data_count: int = 0
    notes: tuple[str, ...] = ()

    def __getitem__(self, metric: str) -> FieldRating:
        return self.ratings[metric]

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object; numbers that are not finite are None."""
        return {
            "equation": self.equation,
            "count": self.count,
            "data_count": self.data_count,
            "metrics": {name: _finite(asdict(rating)) for name, rating in self.ratings.items()},
            "notes": list(self.notes),
        }


def rate(
    equation: Equation | Residual | str,
    fields: Fields,
    spacing: Spacing,
    params: Params | None = None,
    reference: Fields | None = None,
    data: Problem | None = None,
    *,
    metrics: str | Iterable[str] | None = None,
    levels: Mapping[str, tuple[float, float]] | None = None,
    threshold: float = 0.8,
    level: float = 0.95,
) -> FieldScores:
    """Rate samples of physical fields by their equation, beside true solutions.

    Example::

        physics = fewstep.eval.physics
        fields, spacing, params = physics.heat.exact(64)
        scores = physics.rate("heat", {"u": fields["u"]}, spacing, params)
        scores["relative_residual"].value

    Args:
        equation: a name, an object with the members of ``Equation``, or a function
            ``residual(fields, spacing, params)``, for which metrics that need more are left out.
        fields, spacing, params: the samples (B, [T,] space) in physical units, the distances of
            their grid and the parameters of the equation.
        reference: true fields, one a sample, by the names of those that are compared.
        data: true solutions on the same grid, in the dtype in which they are stored: the baseline,
            also of spectra and coverage (from 32 solutions and 3 samples).
        metrics: names, or a text with commas; default all that what is given allows, except
            ``negative_norm`` and ``forward_error``. An unknown name lists them.
        levels: field -> the two values of a coefficient, for ``wrong_share``.
        threshold: correlation that ends the ``correlation_time``.
        level: of the intervals.

    Raises ArgumentError for fields that do not fit the equation, ScoreError for NaN or infinity.
    """
    rules = rules_of(equation)
    between("level", level, 0.0, 1.0)
    samples = Subject.of("fields", rules, fields, spacing, params or {}, reference)
    true = None if data is None else _true(rules, samples, data)
    against = Comparison(true, dict(levels or {}), threshold)
    for name in against.levels:
        if name not in samples.reference:
            raise ArgumentError(f"levels of {name!r}: the reference holds no such field")
    names, notes = _names(metrics, samples, against)
    values = _values(names, samples, against)
    own = {} if true is None else _values(names, true, against)
    ratings = {}
    for key, value in values.items():
        beside = _rating(own[key], level) if key in own else None
        note = ANOTHER if beside is not None and _is_paired(key, samples.reference) else None
        ratings[key] = _beside(replace(_rating(value, level), note=note), beside)
    if true is not None and set(names) & set(ENSEMBLE):
        ratings |= _covered(samples, true, names, level)
    count = 0 if true is None else true.count
    return FieldScores(rules.name, ratings, values, samples.count, count, notes)


def _is_paired(key: str, reference: Fields) -> bool:
    """Whether the metric ``name[field]`` compares each sample with its own reference."""
    name, _, rest = key.partition("[")
    return bool({"reference", "true"} & {*MEASURES[name].needs}) and rest[:-1] in reference


def _true(rules: Rules, samples: Subject, data: Problem) -> Subject:
    """The true solutions; each is paired with another one, where the samples are paired."""
    fields, spacing, params = data
    shapes = {k: tuple(v.shape[1:]) for k, v in samples.problem.fields.items()}
    for name, shape in shapes.items():
        if name not in fields or tuple(fields[name].shape[1:]) != shape:
            raise ArgumentError(
                f"data must hold the fields of the samples on the same grid, {shapes}; they hold "
                f"{ ({k: tuple(v.shape[1:]) for k, v in fields.items()}) }"
            )
    if any(
        not math.isclose(spacing.get(axis, 0.0), h, rel_tol=1e-6)
        for axis, h in samples.problem.spacing.items()
    ):
        raise ArgumentError(
            f"data has the spacing {dict(spacing)}, the samples {samples.problem.spacing}: must be "
            "the same"
        )
    found = Subject.of("data", rules, {name: fields[name] for name in shapes}, spacing, params)
    if samples.reference and found.count > 1:
        others = {name: found.problem.fields[name].roll(1, 0) for name in samples.reference}
        return replace(found, reference=others)
    return found


def _names(
    metrics: str | Iterable[str] | None, samples: Subject, against: Comparison
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The metrics, and notes about those that are left out."""
    have = {
        "equation": samples.rules.equation is not None,
        "solver": all(hasattr(samples.rules.equation, m) for m in ("FIELDS", "AXES", "solve")),
        "reference": bool(samples.reference),
        "data": against.data is not None,
        "true": bool(samples.reference) or against.data is not None,
        "levels": bool(against.levels),
        "time": "t" in samples.problem.spacing,
    }
    names = chosen(metrics, [need for need, there in have.items() if there])
    few = against.data is not None and (against.data.count < FEWEST or samples.count < 3)
    if metrics is None and few:
        names = tuple(name for name in names if name not in ENSEMBLE)
        return names, (f"no coverage: it needs 3 samples and {FEWEST} true solutions",)
    if against.data is None:
        return names, ("no true solutions (data=, --data): residuals and drifts have no baseline",)
    return names, ()


def _values(names: Iterable[str], subject: Subject, against: Comparison) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name in names:
        measure = MEASURES.get(name)
        # a single true solution has no other one to be compared with
        if measure is not None and ("reference" not in measure.needs or subject.reference):
            found |= measure.compute(subject, against)
    return {key: value.detach().cpu().double() for key, value in found.items()}


def _rating(values: Tensor, level: float) -> FieldRating:
    n, mean, median = len(values), float(values.mean()), float(values.quantile(0.5))
    if n < 2:
        return FieldRating(mean, median=median, count=n)
    std = float(values.std())
    half = normal_quantile(level) * std / math.sqrt(n)
    return FieldRating(mean, std, median, mean - half, mean + half, level, n)


def _beside(rating: FieldRating, data: FieldRating | None) -> FieldRating:
    """The rating with that of the true solutions beside it."""
    if data is None or not data.value > 0.0:
        return replace(rating, data=data)
    return replace(rating, data=data, ratio=rating.value / data.value)


def _covered(
    samples: Subject, true: Subject, names: Iterable[str], level: float
) -> dict[str, FieldRating]:
    """Ratings of the coverage."""
    components = Components(true.rated)
    found, own = components.coverage(samples.rated), components.own()
    both = [
        _coverage_ratings(one, count, level)
        for one, count in ((found, samples.count), (own, true.count // 4))
    ]
    beside = {name: _beside(both[0][name], both[1][name]) for name in ENSEMBLE if name in names}
    if "energy_distance" in beside:
        beside["energy_distance"] = replace(beside["energy_distance"], ratio=None)
    return beside


def _coverage_ratings(found: FieldCoverage, count: int, level: float) -> dict[str, FieldRating]:
    value, error = found.energy, found.energy_error
    half = normal_quantile(level) * error
    energy = FieldRating(value, error, None, value - half, value + half, level, count)
    return {"energy_distance": energy, "spread": FieldRating(found.spread, count=count)}


def _finite(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _finite(value)
        if isinstance(value, Mapping)
        else None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for key, value in record.items()
    }

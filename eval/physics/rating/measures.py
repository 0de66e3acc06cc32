"""The metrics of fields by name, each one float64 number a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ....checks import ArgumentError, unknown
from ..equation import Equation
from ..forward import forward_error
from .comparisons import relative_l1, relative_l2, wrong_share
from .conservation import conserved_drift, quantity_scale
from .residuals import mean_absolute_residual, negative_norm, relative_residual, rms_residual
from .rollouts import correlation_time
from .spectra import Spectrum, high_k_ratio, log_spectral_distance
from .subject import Subject

#: name -> values (B,)
Values = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What samples are compared with beside their equation.

    Attributes:
        data: true solutions; None without.
        levels: field -> the two values of a coefficient.
        threshold: of the correlation time.
    """

    data: Subject | None = None
    levels: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    threshold: float = 0.8


@dataclass(frozen=True)
class Measure:
    """A metric.

    Attributes:
        compute: the values by name; one metric may have several, as ``drift[mass]``.
        needs: of equation (more than a residual), solver, reference (paired fields), data, true
            (either), levels, time.
        default: whether it is computed where none is named.
    """

    compute: Callable[[Subject, Comparison], Values]
    needs: tuple[str, ...] = ()
    default: bool = True


def _equation(subject: Subject) -> Equation:
    if subject.rules.equation is None:
        raise ArgumentError(f"{subject.rules.name!r} is a residual alone, not an equation")
    return subject.rules.equation


def _relative(subject: Subject, _: Comparison) -> Values:
    scale = _equation(subject).scale(*subject.problem)
    return {"relative_residual": relative_residual(subject.residual, scale)}


def _negative(subject: Subject, _: Comparison) -> Values:
    value = negative_norm(subject.residual, subject.problem.spacing, subject.walls)
    return {"negative_norm": value}


def _boundary(subject: Subject, _: Comparison) -> Values:
    """None where there are no walls."""
    value = _equation(subject).boundary_error(*subject.problem)
    return {"boundary_error": value} if subject.walls or bool((value != 0.0).any()) else {}


def _drift(subject: Subject, _: Comparison) -> Values:
    """Drifts of all conserved quantities; none where the equation has none."""
    fields, spacing, params = subject.problem
    given = _equation(subject)
    values = given.conserved(fields, spacing, params)
    if not values:
        return {}
    scales = quantity_scale(lambda changed: given.conserved(changed, spacing, params), fields)
    return {f"drift[{name}]": conserved_drift(q, scales[name]) for name, q in values.items()}


def _forward(subject: Subject, _: Comparison) -> Values:
    given = _equation(subject)
    fields, spacing, params = subject.problem
    needed = {name: fields[name] for name in given.FIELDS if name in fields}
    return {"forward_error": forward_error(given, needed, spacing, params)}


def _paired(metric: Callable[[Tensor, Tensor], Tensor], name: str) -> Measure:
    def compute(subject: Subject, _: Comparison) -> Values:
        fields = subject.problem.fields
        return {f"{name}[{k}]": metric(fields[k], v) for k, v in subject.reference.items()}

    return Measure(compute, ("reference",))


def _wrong(subject: Subject, against: Comparison) -> Values:
    return {
        f"wrong_share[{name}]": wrong_share(
            subject.problem.fields[name], subject.reference[name], levels
        )
        for name, levels in against.levels.items()
        if name in subject.reference
    }


def _correlation(subject: Subject, against: Comparison) -> Values:
    dt = subject.problem.spacing["t"]
    return {
        f"correlation_time[{name}]": correlation_time(
            subject.problem.fields[name], true, dt, against.threshold
        )
        for name, true in subject.reference.items()
    }


def _spectral(metric: Callable[[Spectrum, Spectrum], Tensor], name: str) -> Measure:
    """Against the spectrum of a sample's own reference, else the true solutions' mean spectrum."""

    def compute(subject: Subject, against: Comparison) -> Values:
        return {
            f"{name}[{key}]": metric(*_spectra(subject, against, key))
            for key in subject.rated
            if against.data is not None or key in subject.reference
        }

    return Measure(compute, ("true",))


def _spectra(subject: Subject, against: Comparison, key: str) -> tuple[Spectrum, Spectrum]:
    """The spectra of a field, (B, K), and of what it is compared with, (B, K) or (K,)."""
    if key in subject.reference:
        true = subject.paired
        odd = true.vanishes(key)
        return subject.spectrum(key, odd), true.spectrum(key, odd)
    data = against.data
    if data is None:
        raise ArgumentError(f"{key!r} has no true spectrum: {GIVE['true']}")
    odd = data.vanishes(key)
    k, energy, k_max = data.spectrum(key, odd)
    return subject.spectrum(key, odd), Spectrum(k, energy.mean(0), k_max)


MEASURES: Mapping[str, Measure] = {
    "mean_residual": Measure(lambda s, _: {"mean_residual": mean_absolute_residual(s.residual)}),
    "rms_residual": Measure(lambda s, _: {"rms_residual": rms_residual(s.residual)}),
    "relative_residual": Measure(_relative, ("equation",)),
    "negative_norm": Measure(_negative, default=False),
    "boundary_error": Measure(_boundary, ("equation",)),
    "drift": Measure(_drift, ("equation", "time")),
    "forward_error": Measure(_forward, ("solver", "time"), default=False),
    "relative_l2": _paired(relative_l2, "relative_l2"),
    "relative_l1": _paired(relative_l1, "relative_l1"),
    "wrong_share": Measure(_wrong, ("reference", "levels")),
    "correlation_time": Measure(_correlation, ("reference", "time")),
    "log_spectral_distance": _spectral(log_spectral_distance, "log_spectral_distance"),
    "high_k_ratio": _spectral(high_k_ratio, "high_k_ratio"),
}
#: metrics of a set of samples as a whole; see ``coverage``
ENSEMBLE = ("energy_distance", "spread")
#: need -> how to give it
GIVE = {
    "equation": "an equation with scale, boundary_error and conserved in place of a residual alone",
    "solver": "an equation with FIELDS, AXES and solve",
    "reference": "reference=, the true fields of each sample",
    "data": "data=, true solutions",
    "true": "data=, true solutions, or reference=, the true fields of each sample",
    "levels": "levels=, the two values of a coefficient, as {'a': (3, 12)}",
    "time": "fields with a time axis, spacing['t']",
}


def chosen(metrics: str | Iterable[str] | None, have: Iterable[str]) -> tuple[str, ...]:
    """The metrics that are named, or by default all whose needs are among ``have``. Raises
    ArgumentError for an unknown name, with the nearest match, and for one whose needs are not
    met."""
    had = set(have)
    names = (*MEASURES, *ENSEMBLE)
    needs = {**{k: v.needs for k, v in MEASURES.items()}, **dict.fromkeys(ENSEMBLE, ("data",))}
    if metrics is None:
        wanted = [name for name in names if name in ENSEMBLE or MEASURES[name].default]
        return tuple(name for name in wanted if set(needs[name]) <= had)
    parts = metrics.split(",") if isinstance(metrics, str) else list(metrics)
    for name in (part.strip() for part in parts):
        if name not in names:
            raise ArgumentError(unknown("metric", name, names))
        lacking = [need for need in needs[name] if need not in had]
        if lacking:
            raise ArgumentError(f"{name} needs {' and '.join(GIVE[need] for need in lacking)}")
    return tuple(dict.fromkeys(part.strip() for part in parts))

"""The metrics of ``scoring``: what each needs, its value, its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ..errors import ScoreError
from ..metrics.copying import memorization
from ..metrics.frechet import frechet_distance
from ..metrics.inception import inception_score
from ..metrics.intervals import finite_sample_bias, frechet_infinity, frechet_interval
from ..metrics.kernels import kernel_distance
from ..metrics.matrices import at_least_one, matrix, permutation, seeded
from .features import Collected, chosen_places
from .intervals import (
    cmmd_with_error,
    inception_parts,
    kernel_distance_error,
    normal_quantile,
    wilson,
)
from .neighbours import Share, neighbourhood
from .reference import FeatureSet

#: from so many samples on the Inception Score is the mean over the customary 10 parts; below, of
#: all samples at once
SPLIT = 5000
#: dimensions beyond which a Frechet distance is resampled 20 times only, if nothing else is asked
#: for
WIDE = 256
#: fewer resamples have no quantiles: the interval is then ``corrected +- z std``
QUANTILES = 100


@dataclass(frozen=True)
class RatingOptions:
    """How ratings are made.

    Attributes:
        level: of the intervals.
        resamples: of the bootstrap of the Frechet distance; None: 200, above 256 dimensions 20; 0:
            no interval.
        seed: of what is drawn (resamples, subsets).
        pairs: at most so many samples of either side where all pairs are formed (a random subset of
            what is kept).
        k, k_density: neighbours of precision and recall, of density and coverage.
        subsets, subset_size: of the kernel distance.
        strict: refuse statistics of other rules.
    """

    level: float = 0.95
    resamples: int | None = None
    seed: int = 0
    pairs: int = 10_000
    k: int = 3
    k_density: int = 5
    subsets: int = 100
    subset_size: int = 1000
    strict: bool = True

    def __post_init__(self) -> None:
        if not 0.0 < self.level < 1.0:
            raise ScoreError(f"level={self.level!r}: allowed are numbers between 0 and 1")
        for name in ("pairs", "k", "k_density", "subsets", "subset_size"):
            at_least_one(name, getattr(self, name))
        if self.resamples is not None and self.resamples != 0:
            at_least_one("resamples", self.resamples)


@dataclass(frozen=True)
class Rating:
    """One metric.

    Attributes:
        value: as the literature defines it.
        low, high: the interval of confidence ``level``; None where there is none.
        corrected: the value less its bias, in the middle of the interval; None where the value has
            none to speak of.
        std: the standard error; of the parts or subsets where ``method`` says so.
        n_ref, n_gen: samples behind it (n_ref None: exact moments, or no reference).
        method: where the interval comes from.
        note: what a reader must know.
        details: further numbers.
    """

    value: float
    low: float | None = None
    high: float | None = None
    corrected: float | None = None
    std: float | None = None
    level: float | None = None
    n_ref: int | None = None
    n_gen: int | None = None
    method: str | None = None
    note: str | None = None
    details: Mapping[str, float] = field(default_factory=dict)


class Material:
    """What the metrics are computed from; shared work is done once."""

    def __init__(
        self,
        collected: Collected,
        reference: FeatureSet | None,
        held_out: Tensor | None,
        options: RatingOptions,
    ) -> None:
        self.collected, self.given, self.held_out, self.options = (
            collected,
            reference,
            held_out,
            options,
        )

    @property
    def reference(self) -> FeatureSet:
        """The reference, which the metric needs."""
        if self.given is None:
            raise ScoreError("no reference")
        return self.given

    @cached_property
    def kept(self) -> Tensor:
        """The kept features in float64."""
        return matrix(self.collected.features(), "generated")

    @cached_property
    def pair(self) -> tuple[Tensor, Tensor]:
        """Reference and generated features, at most ``pairs`` of either."""
        if self.reference.features is None:
            raise ScoreError(f"{self.reference.name!r} holds no features")
        both = matrix(self.reference.features, "reference"), self.kept
        x, y = (v[chosen_places(torch.arange(len(v)), self.options.pairs)] for v in both)
        if x.shape[1] != y.shape[1]:
            raise ScoreError(f"the reference has {x.shape[1]} dimensions, the samples {y.shape[1]}")
        return x, y

    @cached_property
    def frechet(self) -> Rating:
        """The Frechet distance, which its limit needs too."""
        return _frechet(self)

    @cached_property
    def shares(self) -> Mapping[str, Share]:
        """Precision, recall, density, coverage."""
        return neighbourhood(*self.pair, self.options.k, self.options.k_density)


def _frechet(m: Material) -> Rating:
    stats, ours = m.reference.stats, m.collected.stats()
    value = frechet_distance(stats, ours, strict=False)
    floor = finite_sample_bias(stats, ours.count or 2) + (
        0.0 if stats.count is None else finite_sample_bias(stats, stats.count)
    )
    details = {"perfect_model": floor}
    few = f"{ours.count} samples are few for {ours.dim} dimensions"
    plain = Rating(value, n_ref=stats.count, n_gen=ours.count, details=details)
    resamples = (
        (20 if ours.dim > WIDE else 200) if m.options.resamples is None else m.options.resamples
    )
    if ours.count is None or ours.count < max(ours.dim, 3):
        return replace(plain, note=f"{few}: no interval")
    if ours.count > len(m.kept):
        return replace(plain, note=f"no interval: {len(m.kept)} of {ours.count} features were kept")
    if not resamples:
        return replace(plain, note="no interval was asked for")
    found = frechet_interval(
        stats, m.kept, resamples=resamples, level=m.options.level, seed=m.options.seed, strict=False
    )
    low, high, method = found.low, found.high, f"basic bootstrap, {resamples} resamples"
    if resamples < QUANTILES:
        half = normal_quantile(m.options.level) * (found.std or 0.0)
        low, high, method = (
            found.value - half,
            found.value + half,
            f"bootstrap, {resamples} resamples, normal",
        )
    note = None if ours.count >= 10 * ours.dim else few
    return Rating(
        value,
        low,
        high,
        found.value,
        found.std,
        m.options.level,
        stats.count,
        ours.count,
        method,
        note,
        details,
    )


def _around(
    m: Material, value: float, error: float, method: str, n_ref: int | None, n_gen: int
) -> Rating:
    """``value +- z error``."""
    half = normal_quantile(m.options.level) * error
    return Rating(
        value, value - half, value + half, None, error, m.options.level, n_ref, n_gen, method
    )


def _infinity(m: Material) -> Rating:
    found = frechet_infinity(m.reference.stats, m.kept, seed=m.options.seed, strict=False)
    fd, line = m.frechet.std, found.std or 0.0
    if fd is None:
        return Rating(
            found.value,
            std=line,
            n_ref=found.n_ref,
            n_gen=found.n_gen,
            note="std is the line's alone; no interval",
        )
    method = "the bootstrap's deviation of the distance and the line's error"
    return _around(m, found.value, (fd**2 + line**2) ** 0.5, method, found.n_ref, found.n_gen or 0)


def _kernel(m: Material) -> Rating:
    x, y = m.pair
    size = min(m.options.subset_size, len(x), len(y))
    found = kernel_distance(x, y, subsets=m.options.subsets, subset_size=size, seed=m.options.seed)
    error = (kernel_distance_error(x, y) ** 2 + (found.std or 0.0) ** 2 / m.options.subsets) ** 0.5
    made = _around(
        m, found.value, error, f"jackknife; {m.options.subsets} subsets of {size}", len(x), len(y)
    )
    return replace(made, details={"subset_std": found.std or 0.0, "subset_size": float(size)})


def _inception(m: Material) -> Rating:
    logits = m.collected.logits()
    if logits is None:
        raise ScoreError("the Inception Score needs class logits, and none were computed")
    z = matrix(logits, "logits", 2)
    splits = 10 if len(z) >= SPLIT else 1
    found = inception_score(z, splits=splits)
    parts = [
        inception_parts(part) for part in z[permutation(len(z), seeded(2020))].tensor_split(splits)
    ]
    values = torch.tensor([value for value, _ in parts], dtype=torch.float64)
    # the jackknife's n T - (n - 1) mean T_-j, and the errors of independent parts
    corrected = [len(w) * v - (len(w) - 1) * float(w.mean()) for v, w in parts]
    error = (
        sum(float((len(w) - 1) / len(w) * (w - w.mean()).square().sum()) for _, w in parts) ** 0.5
        / splits
    )
    made = _around(m, sum(corrected) / splits, error, f"jackknife; {splits} parts", None, len(z))
    details = {
        "splits": float(splits),
        "part_std": float(values.std(correction=0)),
        "classes": float(z.shape[1]),
    }
    return replace(made, value=found.value, corrected=made.value, details=details)


def _cmmd(m: Material) -> Rating:
    x, y = m.pair
    value, unbiased, error = cmmd_with_error(x, y)
    made = _around(m, unbiased, error, "jackknife", len(x), len(y))
    return replace(made, value=value, corrected=unbiased)


def _share(name: str) -> Callable[[Material], Rating]:
    def compute(m: Material) -> Rating:
        found = m.shares[name]
        n_ref, n_gen = (len(v) for v in m.pair)
        if name == "precision":
            low, high = wilson(found.value, n_gen, m.options.level)
            return Rating(
                found.value,
                low,
                high,
                None,
                found.error,
                m.options.level,
                n_ref,
                n_gen,
                f"Wilson; k={m.options.k}",
            )
        k = m.options.k if name == "recall" else m.options.k_density
        made = _around(m, found.value, found.error, f"jackknife; k={k}", n_ref, n_gen)
        top = float("inf") if name == "density" else 1.0
        return replace(made, low=max(made.low or 0.0, 0.0), high=min(made.high or 0.0, top))

    return compute


def _memorization(m: Material) -> Rating:
    x, y = m.pair
    found = memorization(y, x, m.held_out)
    low, high = wilson(found.fraction, len(y), m.options.level)
    details = {"authentic": found.authentic}
    if found.z is not None and found.held_out_fraction is not None:
        details |= {"z": found.z, "held_out_fraction": found.held_out_fraction}
    known = m.reference.stats.count or len(x)
    some = "" if len(x) >= known else f", {len(x)} of its {known} samples"
    calibrated = "" if m.held_out is not None else "; not calibrated"
    note = f"share of copies of the reference{some}, which must be the training data{calibrated}"
    return Rating(
        found.fraction,
        low,
        high,
        None,
        None,
        m.options.level,
        len(x),
        len(y),
        "Wilson",
        note,
        details,
    )


@dataclass(frozen=True)
class Metric:
    """What a metric needs: a reference, its features, logits, how many samples; and how it is
    computed."""

    compute: Callable[[Material], Rating]
    title: str
    reference: bool = True
    features: bool = False
    least: int = 2


METRICS: dict[str, Metric] = {
    "fd": Metric(lambda m: m.frechet, "FD"),
    "fd_infinity": Metric(_infinity, "FD at infinity", least=30),
    "kid": Metric(_kernel, "KID", features=True, least=3),
    "is": Metric(_inception, "IS", reference=False),
    **{
        name: Metric(_share(name), name, features=True, least=6)
        for name in ("precision", "recall", "density", "coverage")
    },
    "cmmd": Metric(_cmmd, "CMMD", features=True, least=3),
    "memorization": Metric(_memorization, "memorization", features=True, least=1),
}

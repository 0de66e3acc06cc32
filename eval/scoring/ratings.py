"""Ratings: a metric's value with its interval, and the features that ratings are computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..errors import ScoreError
from ..features.moments import FeatureStats
from ..metrics.matrices import at_least_one, fraction, matrix
from .features import Collected, chosen_places
from .intervals import normal_quantile
from .neighbours import Share, neighbourhood
from .reference import FeatureSet


@dataclass(frozen=True)
class RatingOptions:
    """Options of the metrics and their intervals.

    Attributes:
        level: confidence level of the intervals.
        resamples: bootstrap resamples of the Frechet distance; None: 200, above 256 dimensions 20;
            0: no interval.
        seed: of resamples and subsets.
        pairs: at most this many samples of either side in metrics that form all pairs (a random
            subset of the kept features).
        k, k_density: neighbours of precision and recall, of density and coverage.
        subsets, subset_size: of the kernel distance.
        strict: refuse statistics made by other rules.
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
        fraction("level", self.level)
        for name in ("pairs", "k", "k_density", "subsets", "subset_size"):
            at_least_one(name, getattr(self, name))
        if self.resamples is not None and self.resamples != 0:
            at_least_one("resamples", self.resamples)


@dataclass(frozen=True)
class Rating:
    """The value of one metric with its confidence interval.

    Attributes:
        value: as the literature defines it.
        low, high: interval of confidence ``level``; None where there is none.
        corrected: the value less its bias, the centre of the interval; None where the bias is
            negligible.
        std: standard error; of the parts or subsets where ``method`` says so.
        level: confidence level of the interval.
        n_ref, n_gen: numbers of samples used (n_ref None: exact moments, or no reference).
        method: how the interval was computed.
        note: a caveat, such as too few samples.
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


class RatingInput:
    """The features that the metrics of one score share, and intermediate results, computed once.

    Args:
        collected: moments and kept features of the generated samples.
        given: statistics and features of the reference; None for metrics without one.
        held_out: features (n, q) of held-out data, which calibrate memorization.
        options: of the metrics.
    """

    def __init__(
        self,
        collected: Collected,
        given: FeatureSet | None,
        held_out: Tensor | None,
        options: RatingOptions,
    ) -> None:
        self.collected, self.given = collected, given
        self.held_out, self.options = held_out, options
        self._ratings: dict[str, Rating] = {}

    @property
    def reference(self) -> FeatureSet:
        """The reference. ScoreError without one."""
        if self.given is None:
            raise ScoreError("no reference")
        return self.given

    @cached_property
    def stats(self) -> FeatureStats:
        """Mean and covariance of all generated samples."""
        return self.collected.stats()

    @cached_property
    def kept(self) -> Tensor:
        """The kept features of the generated samples, float64."""
        return matrix(self.collected.features(), "generated")

    @cached_property
    def pair(self) -> tuple[Tensor, Tensor]:
        """Reference and generated features, at most ``options.pairs`` of either, float64."""
        if self.reference.features is None:
            raise ScoreError(f"{self.reference.name!r} holds no features")
        both = matrix(self.reference.features, "reference"), self.kept
        x, y = (v[chosen_places(torch.arange(len(v)), self.options.pairs)] for v in both)
        if x.shape[1] != y.shape[1]:
            raise ScoreError(f"the reference has {x.shape[1]} dimensions, the samples {y.shape[1]}")
        return x, y

    @cached_property
    def shares(self) -> Mapping[str, Share]:
        """Precision, recall, density and coverage with their standard errors."""
        return neighbourhood(*self.pair, self.options.k, self.options.k_density)

    def rated(self, name: str, compute: Callable[[RatingInput], Rating]) -> Rating:
        """The rating ``name``, computed once: other metrics may need it too."""
        if name not in self._ratings:
            self._ratings[name] = compute(self)
        return self._ratings[name]

    def around(
        self, value: float, error: float, method: str, n_ref: int | None, n_gen: int
    ) -> Rating:
        """The rating with the normal interval ``value +- z error``."""
        half = normal_quantile(self.options.level) * error
        return Rating(
            value,
            value - half,
            value + half,
            std=error,
            level=self.options.level,
            n_ref=n_ref,
            n_gen=n_gen,
            method=method,
        )

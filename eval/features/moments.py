"""Mean and covariance of features, accumulated in float64 and merged over shards, with their
provenance.

The accumulator holds ``n``, the mean ``mu`` and ``M = sum (f - mu)(f - mu)^T``; two parts merge by
(Chan, Golub & LeVeque 1983, doi 10.1080/00031305.1983.10483115)

    delta = mu_b - mu_a,   mu = mu_a + delta n_b / n,   M = M_a + M_b + delta delta^T n_a n_b / n,

which, unlike sums of squares, does not cancel where the mean is large against the deviations. The
covariance is ``M / (n - 1)``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentError, flag, instance, integer, plain, shown
from ..errors import ProvenanceError, ScoreError
from ..metrics.matrices import matrix

#: fields of ``Provenance`` that must agree before two statistics are compared
RULES = ("extractor", "resize", "quantize")


@dataclass(frozen=True)
class Provenance:
    """The data and rules that statistics were computed with; None: unknown.

    Attributes:
        data: SHA-256 of the images (or samples) as read.
        extractor: name and SHA-256 of the feature network.
        resize: rule that resized images to the network's size.
        quantize: rule that rounded images to grey levels.
        dtype: of the network.
        note: free text.
    """

    data: str | None = None
    extractor: str | None = None
    resize: str | None = None
    quantize: str | None = None
    dtype: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None and not isinstance(value, str):
                raise ScoreError(f"provenance {item.name}={value!r}: must be a text or None")

    def check(self, other: Provenance) -> None:
        """Raise ProvenanceError where a rule is known on both sides and differs."""
        instance("other", other, Provenance, "a Provenance")
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in RULES]
        wrong = [
            f"{name} {a!r} and {b!r}"
            for name, a, b in pairs
            if a is not None and b is not None and a != b
        ]
        if wrong:
            raise ProvenanceError(
                f"statistics of different rules: {'; '.join(wrong)}; strict=False compares "
                "them all the same"
            )


@dataclass(frozen=True, eq=False)
class FeatureStats:
    """Mean (q,), unbiased covariance (q, q), both float64, and the number of samples behind them
    (None: exact moments of a known law)."""

    mean: Tensor
    cov: Tensor
    count: int | None
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def dim(self) -> int:
        """Length q of a feature vector."""
        return len(self.mean)

    @classmethod
    def from_moments(
        cls, mean: Any, cov: Any, count: int | None, provenance: Provenance | None = None
    ) -> FeatureStats:
        """From known moments; ScoreError unless they are finite, of matching shape, and the
        covariance is symmetric to rounding."""
        mu = matrix(mean, "mean").reshape(-1)
        sigma = matrix(cov, "cov")
        if torch.as_tensor(mean).ndim > 1 or sigma.shape != (len(mu), len(mu)):
            raise ScoreError(
                f"mean {tuple(torch.as_tensor(mean).shape)} and cov {tuple(sigma.shape)}: "
                "must be (q,) and (q, q)"
            )
        if count is not None:
            count = _count(count)
        scale = float(sigma.abs().max())
        if (
            float((sigma - sigma.T).abs().max()) > 1e-6 * scale
            or float(sigma.diagonal().min()) < -1e-12 * scale
        ):
            raise ScoreError(
                "cov is not a covariance: it must be symmetric with a diagonal of at least 0"
            )
        made = mu.clone(), 0.5 * (sigma + sigma.T)
        return cls(*made, count, _known(provenance))

    @classmethod
    def from_features(cls, features: Any, provenance: Provenance | None = None) -> FeatureStats:
        """From a matrix (n, q), or an iterable of such batches, which are read once and not kept.
        At least 2 samples in all."""
        parts = Moments()
        batches = [features] if hasattr(features, "shape") else features
        if not isinstance(batches, Iterable):
            raise ScoreError(
                f"features must be a matrix or batches of one, got {type(features).__name__}"
            )
        for batch in batches:
            parts.update(batch)
        return parts.stats(provenance)

    def merge(self, *others: FeatureStats, strict: bool = True) -> FeatureStats:
        """Statistics of all samples together; ProvenanceError where they come from different
        rules."""
        parts = Moments.of(self)
        flag("strict", strict)
        for other in others:
            instance("other", other, FeatureStats, "FeatureStats")
            if strict:
                self.provenance.check(other.provenance)
            parts.merge(Moments.of(other))
        same = all(other.provenance == self.provenance for other in others)
        return parts.stats(
            self.provenance if same else replace(self.provenance, data=None, note=None)
        )


class Moments:
    """A running mean and scatter matrix; ``stats`` needs at least two samples."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.scatter = torch.zeros(0, 0, dtype=torch.float64)

    @classmethod
    def of(cls, stats: FeatureStats) -> Moments:
        """The accumulator with the moments ``stats``. ScoreError for exact moments, which have no
        count."""
        instance("stats", stats, FeatureStats, "FeatureStats")
        if stats.count is None:
            raise ScoreError("moments without a count cannot be merged")
        made = cls()
        made.count, made.mean, made.scatter = stats.count, stats.mean, stats.cov * (stats.count - 1)
        return made

    def update(self, features: Any) -> None:
        """Add a batch (n, q), which may be empty."""
        if hasattr(features, "shape") and len(features.shape) > 1 and features.shape[0] == 0:
            return
        f = matrix(features)
        part = Moments()
        part.count, part.mean = len(f), f.mean(dim=0)
        centred = f - part.mean
        part.scatter = centred.T @ centred
        self.merge(part)

    def merge(self, other: Moments) -> None:
        """Add the samples of ``other``."""
        instance("other", other, Moments, "Moments")
        if not other.count:
            return
        if not self.count:
            self.count, self.mean, self.scatter = (
                other.count,
                other.mean.clone(),
                other.scatter.clone(),
            )
            return
        if len(other.mean) != len(self.mean):
            raise ScoreError(
                f"features of {len(self.mean)} and of {len(other.mean)} dimensions cannot be merged"
            )
        n = self.count + other.count
        delta = other.mean - self.mean
        self.mean = self.mean + delta * (other.count / n)
        self.scatter = (
            self.scatter
            + other.scatter
            + torch.outer(delta, delta) * (self.count * other.count / n)
        )
        self.count = n

    def stats(self, provenance: Provenance | None = None) -> FeatureStats:
        """Mean and covariance of all samples so far. ScoreError for fewer than 2 samples."""
        if self.count < 2:
            raise ScoreError(f"{self.count} samples have no covariance: at least 2 are needed")
        cov = self.scatter / (self.count - 1)
        return FeatureStats(self.mean.clone(), 0.5 * (cov + cov.T), self.count, _known(provenance))


def _known(provenance: Provenance | None) -> Provenance:
    """``provenance``, or an empty one for None."""
    if provenance is None:
        return Provenance()
    instance("provenance", provenance, Provenance, "a Provenance")
    return provenance


def _count(count: Any) -> int:
    """``count`` as an integer >= 2. Whole floats are accepted, since files of other tools hold
    them."""
    try:
        found = plain(count)
        return integer(
            "count", int(found) if isinstance(found, float) and found.is_integer() else found, 2
        )
    except ArgumentError:
        raise ScoreError(
            f"count={shown(count)}: must be an integer >= 2, or None for exact moments"
        ) from None

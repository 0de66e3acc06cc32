"""Scores of samples: several metrics with confidence intervals from one pass of a feature network.

Intervals are over the generated samples, at a fixed reference: the basic bootstrap for Frechet
distances (``metrics.intervals``), Wilson's for shares of independent samples, else ``+- z se`` with
the jackknife's standard error (``scoring.intervals``). Where a metric is biased at a finite number
of samples, ``corrected`` is its value less the bias, and the interval is centred there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...checks import shown, unknown
from ...models.classifier import bundled_classifiers
from ..errors import ScoreError
from ..features.extractors import Device, FeatureExtractor
from ..features.grey_levels import levels
from ..features.loading import load_extractor
from ..features.moments import Provenance
from ..features.value_range import Range, Values, check_range
from .features import KEEP, Collected
from .rated_metrics import METRICS
from .ratings import Rating, RatingInput, RatingOptions
from .reference import FeatureSet, extractor_of, load_reference


@dataclass(frozen=True)
class Scores:
    """Ratings by metric, with the provenance of both sides.

    Attributes:
        ratings: metric -> rating.
        count: number of generated samples.
        generated: provenance of the generated samples' features.
        reference, reference_provenance: name and provenance of the reference; None without one.
        options: of the ratings.
        values: for floating point images their range, smallest and largest value, and the share
            ``clamped`` of values outside; None for uint8 images.
    """

    ratings: Mapping[str, Rating]
    count: int
    generated: Provenance
    reference: str | None = None
    reference_provenance: Provenance | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] | None = None

    def __getitem__(self, metric: str) -> Rating:
        return self.ratings[metric]

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "metrics": {name: asdict(rating) for name, rating in self.ratings.items()},
            "count": self.count,
            "generated": asdict(self.generated),
            "reference": None
            if self.reference is None
            else {"name": self.reference, **asdict(self.reference_provenance or Provenance())},
            "options": dict(self.options),
            "values": None if self.values is None else dict(self.values),
        }


def metric_names(metrics: str | Iterable[str]) -> tuple[str, ...]:
    """Metric names from ``"fd,kid"`` or a list, without repeats. ScoreError for an unknown name,
    with the nearest match."""
    if isinstance(metrics, str):
        names: list[Any] = [part.strip() for part in metrics.split(",")]
    elif not isinstance(metrics, Iterable) or getattr(metrics, "ndim", None) == 0:
        raise ScoreError(
            f"metrics={shown(metrics)}: must be names of metrics; allowed: {', '.join(METRICS)}"
        )
    else:
        names = list(metrics)
    for name in names:
        if not isinstance(name, str) or name not in METRICS:
            raise ScoreError(unknown("metric", name, METRICS))
    if not names:
        raise ScoreError(f"metrics is empty; allowed: {', '.join(METRICS)}")
    return tuple(dict.fromkeys(names))


def check_request(
    metrics: Sequence[str],
    reference: FeatureSet | None,
    count: int | None,
    rules: Provenance | None = None,
    strict: bool = True,
) -> None:
    """Check a request before any image is read. ScoreError for a metric without the reference or
    features it needs, for too few samples, and for statistics of other rules."""
    for name in metrics:
        need = METRICS[name]
        if need.reference and reference is None:
            raise ScoreError(
                f"{name} needs a reference; metrics without one: "
                f"{', '.join(k for k, v in METRICS.items() if not v.reference)}"
            )
        if need.features and (reference is None or reference.features is None):
            raise ScoreError(
                f"{name} needs the features of the reference's samples, and "
                f"{getattr(reference, 'name', None)!r} holds moments only: "
                "make one with `fewstep ref DATA --features --out FILE`"
            )
        if count is not None and count < need.least:
            raise ScoreError(f"{name}: {count} samples, must be at least {need.least}")
    if strict and reference is not None and rules is not None:
        reference.stats.provenance.check(rules)


def rate(
    collected: Collected,
    reference: FeatureSet | None,
    metrics: Sequence[str],
    *,
    provenance: Provenance | None = None,
    held_out: Tensor | None = None,
    options: RatingOptions | None = None,
) -> Scores:
    """Rate collected samples by the given metrics. Raises ScoreError; ProvenanceError where the
    rules differ and ``options.strict``."""
    options = options or RatingOptions()
    made = provenance or Provenance()
    names = metric_names(metrics)
    check_request(names, reference, collected.count, made, options.strict)
    features = RatingInput(collected, reference, held_out, options)
    ratings = {name: METRICS[name].compute(features) for name in names}
    for name, rating in ratings.items():
        if not math.isfinite(rating.value):
            raise ScoreError(f"{name} is {rating.value}: the features cannot be scored")
    theirs = None if reference is None else reference.stats.provenance
    return Scores(
        ratings,
        collected.count,
        made,
        None if reference is None else reference.name,
        theirs,
        asdict(options),
    )


def score(
    images: Any,
    reference: FeatureSet | str | Path | None = "mnist:train",
    *,
    extractor: FeatureExtractor | str | Path | None = None,
    metrics: str | Iterable[str] = "fd",
    logits: FeatureExtractor | None = None,
    held_out: Tensor | None = None,
    batch: int = 64,
    keep: int = KEEP,
    options: RatingOptions | None = None,
    device: Device = None,
    value_range: Range = None,
) -> Scores:
    """Score images in one pass.

    Args:
        images: a tensor or batches of them, uint8 or floating point (n, c, h, w).
        reference: ``NAME:train`` or ``NAME:test`` of a bundled network, a statistics file, or a
            ``FeatureSet``.
        extractor: a ``load_extractor`` name; default the network that made the reference.
        metrics: names in a list or separated by commas, such as ``"fd,kid,precision"``; an unknown
            name lists all. ``memorization`` is against the reference, which must be the training
            data.
        logits: extractor of the class logits of the Inception Score; default the named extractor's.
        held_out: features (n, q) of held-out data, which calibrate ``memorization``.
        batch: images in one network call.
        keep: at most this many features are kept.
        options: of the metrics and their intervals.
        device: of networks loaded by name.
        value_range: (low, high), values of black and white in floating point images, such as
            (-1, 1), (0, 1) or (0, 255). None: (-1, 1), and images whose values all together are not
            consistent with it are refused (at the end of the pass for batches). Values outside are
            clamped and counted in ``Scores.values``.

    Raises ScoreError for bad images, too few of them, and a metric without the data it needs.
    """
    limits = check_range(value_range)
    names = metric_names(metrics)
    against = (
        reference
        if isinstance(reference, FeatureSet) or reference is None
        else load_reference(reference)
    )
    network, classes = extractors(extractor, against, "is" in names, logits, device)
    strict = options is None or options.strict
    check_request(
        names,
        against,
        len(images) if getattr(images, "shape", ()) else None,
        network.provenance(),
        strict,
    )
    collected, seen = Collected(keep), Values()
    for image, seen in levels(images, batch, network.quantize, limits):  # noqa: B007 (the last one counts)
        found = list(network.batches(image, batch))
        if found:
            collected.add(
                torch.cat(found), None if classes is None else classes.features(image, batch)
            )
    made = network.provenance() if seen.count else replace(network.provenance(), quantize=None)
    scores = rate(collected, against, names, provenance=made, held_out=held_out, options=options)
    return replace(scores, values=seen.to_dict(limits))


def extractors(
    extractor: FeatureExtractor | str | Path | None,
    reference: FeatureSet | None,
    with_logits: bool,
    logits: FeatureExtractor | None = None,
    device: Device = None,
) -> tuple[FeatureExtractor, FeatureExtractor | None]:
    """The feature network, and the network of the class logits if ``with_logits``. ScoreError where
    no network is named."""
    spec = extractor
    if spec is None and reference is not None:
        spec = extractor_of(reference.stats)
        if spec is None:
            made = reference.stats.provenance.extractor or "an unknown network"
            raise ScoreError(
                f"{reference.name!r} was made with {made}: name that network (extractor=, "
                "--extractor)"
            )
    if spec is None:
        raise ScoreError(
            "no extractor and no reference that names one; bundled: "
            f"{', '.join(bundled_classifiers().values())}"
        )
    network = spec if isinstance(spec, FeatureExtractor) else load_extractor(spec, device=device)
    if not with_logits or logits is not None:
        return network, logits if with_logits else None
    if isinstance(spec, FeatureExtractor):
        raise ScoreError(
            "the Inception Score needs class logits: give logits=, an extractor of them"
        )
    return network, load_extractor(spec, logits=True, device=device)

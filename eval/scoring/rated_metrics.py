"""The metrics of ``score``: the samples and features that each one needs, and its rating."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ..errors import ScoreError
from ..metrics.copying import memorization
from ..metrics.frechet import frechet_distance
from ..metrics.inception import inception_score
from ..metrics.intervals import finite_sample_bias, frechet_infinity, frechet_interval
from ..metrics.kernels import kernel_distance
from ..metrics.matrices import matrix, permutation, seeded
from .intervals import (
    cmmd_with_error,
    inception_parts,
    kernel_distance_error,
    normal_quantile,
    wilson,
)
from .ratings import Rating, RatingInput

#: from this many samples on, the Inception Score is the mean over the customary 10 parts; below, it
#: is computed from all samples at once
SPLIT = 5000
#: above this many dimensions the default number of bootstrap resamples of the Frechet distance
#: falls from 200 to 20
WIDE = 256
#: with fewer resamples than this, quantiles are too coarse: the interval is ``corrected +- z std``
QUANTILES = 100


def _frechet(m: RatingInput) -> Rating:
    stats, ours = m.reference.stats, m.stats
    floor = finite_sample_bias(stats, ours.count or 2)
    if stats.count is not None:
        floor += finite_sample_bias(stats, stats.count)
    plain = Rating(
        frechet_distance(stats, ours, strict=False),
        n_ref=stats.count,
        n_gen=ours.count,
        details={"perfect_model": floor},
    )
    missing = _no_bootstrap(m)
    return replace(plain, note=missing) if missing else _bootstrapped(m, plain)


def _resamples(m: RatingInput) -> int:
    """Bootstrap resamples of the Frechet distance: as asked for, or by the number of dimensions."""
    if m.options.resamples is None:
        return 20 if m.stats.dim > WIDE else 200
    return m.options.resamples


def _few(m: RatingInput) -> str:
    return f"{m.stats.count} samples are few for {m.stats.dim} dimensions"


def _no_bootstrap(m: RatingInput) -> str:
    """Why the Frechet distance has no bootstrap interval; empty where it has one."""
    count = m.stats.count
    if count is None or count < max(m.stats.dim, 3):
        return f"{_few(m)}: no interval"
    if count > len(m.kept):
        return f"no interval: {len(m.kept)} of {count} features were kept"
    return "" if _resamples(m) else "no interval: resamples=0"


def _bootstrapped(m: RatingInput, plain: Rating) -> Rating:
    """``plain`` with the bootstrap interval of the Frechet distance."""
    count, level = _resamples(m), m.options.level
    found = frechet_interval(
        m.reference.stats,
        m.kept,
        resamples=count,
        level=level,
        seed=m.options.seed,
        strict=False,
    )
    low, high, method = found.low, found.high, f"basic bootstrap, {count} resamples"
    if count < QUANTILES:
        half = normal_quantile(level) * (found.std or 0.0)
        low, high = found.value - half, found.value + half
        method = f"bootstrap, {count} resamples, normal"
    return replace(
        plain,
        low=low,
        high=high,
        corrected=found.value,
        std=found.std,
        level=level,
        method=method,
        note=None if (m.stats.count or 0) >= 10 * m.stats.dim else _few(m),
    )


def _infinity(m: RatingInput) -> Rating:
    found = frechet_infinity(m.reference.stats, m.kept, seed=m.options.seed, strict=False)
    spread, line = m.rated("fd", _frechet).std, found.std or 0.0
    if spread is None:
        return Rating(
            found.value,
            std=line,
            n_ref=found.n_ref,
            n_gen=found.n_gen,
            note="std is the line's alone; no interval",
        )
    method = "the bootstrap's deviation of the distance and the line's error"
    error = (spread**2 + line**2) ** 0.5
    return m.around(found.value, error, method, found.n_ref, found.n_gen or 0)


def _kernel(m: RatingInput) -> Rating:
    x, y = m.pair
    size = min(m.options.subset_size, len(x), len(y))
    found = kernel_distance(x, y, subsets=m.options.subsets, subset_size=size, seed=m.options.seed)
    error = (kernel_distance_error(x, y) ** 2 + (found.std or 0.0) ** 2 / m.options.subsets) ** 0.5
    made = m.around(
        found.value, error, f"jackknife; {m.options.subsets} subsets of {size}", len(x), len(y)
    )
    return replace(made, details={"subset_std": found.std or 0.0, "subset_size": float(size)})


def _inception(m: RatingInput) -> Rating:
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
    made = m.around(sum(corrected) / splits, error, f"jackknife; {splits} parts", None, len(z))
    details = {
        "splits": float(splits),
        "part_std": float(values.std(correction=0)),
        "classes": float(z.shape[1]),
    }
    return replace(made, value=found.value, corrected=made.value, details=details)


def _cmmd(m: RatingInput) -> Rating:
    x, y = m.pair
    value, unbiased, error = cmmd_with_error(x, y)
    made = m.around(unbiased, error, "jackknife", len(x), len(y))
    return replace(made, value=value, corrected=unbiased)


def _share(name: str) -> Callable[[RatingInput], Rating]:
    def compute(m: RatingInput) -> Rating:
        found, options = m.shares[name], m.options
        n_ref, n_gen = (len(v) for v in m.pair)
        if name == "precision":
            made = m.around(found.value, found.error, f"Wilson; k={options.k}", n_ref, n_gen)
            low, high = wilson(found.value, n_gen, options.level)
            return replace(made, low=low, high=high)
        k = options.k if name == "recall" else options.k_density
        made = m.around(found.value, found.error, f"jackknife; k={k}", n_ref, n_gen)
        top = float("inf") if name == "density" else 1.0
        return replace(made, low=max(made.low or 0.0, 0.0), high=min(made.high or 0.0, top))

    return compute


def _memorization(m: RatingInput) -> Rating:
    x, y = m.pair
    found = memorization(y, x, m.held_out)
    low, high = wilson(found.fraction, len(y), m.options.level)
    details = {"authentic": found.authentic}
    if found.z is not None and found.held_out_fraction is not None:
        details |= {"z": found.z, "held_out_fraction": found.held_out_fraction}
    known = m.reference.stats.count or len(x)
    some = "" if len(x) >= known else f", {len(x)} of its {known} samples"
    calibrated = "" if m.held_out is not None else "; not calibrated"
    return Rating(
        found.fraction,
        low,
        high,
        level=m.options.level,
        n_ref=len(x),
        n_gen=len(y),
        method="Wilson",
        note=f"share of copies of the reference{some}, which must be the training data{calibrated}",
        details=details,
    )


@dataclass(frozen=True)
class Metric:
    """One metric of ``score``.

    Attributes:
        compute: the rating, from the shared features.
        title: name in tables.
        reference: whether it needs a reference.
        features: whether it needs the features of the reference's samples, beside their moments.
        least: smallest number of generated samples.
    """

    compute: Callable[[RatingInput], Rating]
    title: str
    reference: bool = True
    features: bool = False
    least: int = 2


METRICS: dict[str, Metric] = {
    "fd": Metric(lambda m: m.rated("fd", _frechet), "FD"),
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

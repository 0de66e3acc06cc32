"""How sure a Frechet distance is: its interval, and its limit for endless samples.

The distance of a finite sample is too large by about ``c / m`` (Binkowski et al. 2018, arXiv
1801.01401; Chong & Forsyth 2020, arXiv 1911.07023). A resampled distance is too large by about
twice as much, so a percentile interval lies beside the truth; the basic interval
``[2 FD - q_high, 2 FD - q_low]`` of the bootstrap (Davison & Hinkley 1997, section 5.2) takes that
bias off to first order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...checks import instance
from ..errors import ScoreError
from ..features.moments import FeatureStats
from .frechet import frechet_distance
from .matrices import at_least_one, fraction, matrix, permutation, seeded

#: the most resamples, and sizes of subsets
MOST = 1_000_000


@dataclass(frozen=True)
class Estimate:
    """A number with what it rests on.

    Attributes:
        value: the estimate.
        low, high: ends of the interval of confidence ``level``; None where there is none.
        std: standard deviation of the estimate, or of its parts (see the function).
        n_ref, n_gen: samples behind it.
        seed: of what was drawn; None where nothing was.
    """

    value: float
    low: float | None = None
    high: float | None = None
    std: float | None = None
    level: float | None = None
    n_ref: int | None = None
    n_gen: int | None = None
    seed: int | None = None


def frechet_interval(
    reference: Any,
    generated: Any,
    *,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
    strict: bool = True,
) -> Estimate:
    """Frechet distance with a basic bootstrap interval.

    ``generated`` is a feature matrix (m, q) and is resampled. ``reference`` is a matrix, which is
    resampled too, or ``FeatureStats``, which stand as they are: a fixed reference set is no sample
    then. ``value`` is less the bias (2 FD minus the mean of the resampled distances), so that it
    may be negative where both laws are the same; ``frechet_distance`` gives the usual one. Needs m
    well above q.
    """
    at_least_one("resamples", resamples, MOST)
    level = fraction("level", level)
    real = reference if isinstance(reference, FeatureStats) else matrix(reference, "reference", 3)
    fake = matrix(generated, "generated", 3)
    plain = frechet_distance(real, fake, strict=strict)
    generator = seeded(seed)
    drawn = []
    for _ in range(resamples):
        against = real if isinstance(real, FeatureStats) else resampled(real, generator)
        drawn.append(frechet_distance(against, resampled(fake, generator), strict=strict))
    values = torch.tensor(drawn, dtype=torch.float64)
    tail = 0.5 * (1.0 - level)
    low, high = (2.0 * plain - float(values.quantile(p)) for p in (1.0 - tail, tail))
    n_ref = real.count if isinstance(real, FeatureStats) else len(real)
    std = float(values.std()) if resamples > 1 else None
    return Estimate(
        2.0 * plain - float(values.mean()), low, high, std, level, n_ref, len(fake), seed
    )


def resampled(features: Tensor, generator: torch.Generator) -> Tensor:
    """As many rows as there are, drawn with replacement."""
    return features[torch.randint(len(features), (len(features),), generator=generator)]


def frechet_infinity(
    reference: Any,
    generated: Any,
    *,
    sizes: int = 15,
    smallest: int | None = None,
    seed: int = 0,
    strict: bool = True,
) -> Estimate:
    """The distance for endless generated samples: the intercept of ``FD_N`` over ``1/N`` (Chong &
    Forsyth 2020, section 4).

    ``sizes`` subsets of ``generated`` (m, q), N evenly spaced from ``smallest``
    (``min(5000, m / 10)``, at least 2) to m, each drawn without replacement. ``std`` is the
    standard error of the intercept. What is left is the bias of the reference's own sample.
    """
    fake = matrix(generated, "generated", 4)
    stats = (
        reference
        if isinstance(reference, FeatureStats)
        else FeatureStats.from_features(matrix(reference, "reference", 2))
    )
    at_least_one("sizes", sizes, MOST)
    m = len(fake)
    least = (
        max(min(5000, m // 10), 2)
        if smallest is None
        else at_least_one("smallest", smallest, m - 1)
    )
    if sizes < 3 or least < 2:
        raise ScoreError(f"sizes={sizes}, smallest={least}: at least 3 sizes of at least 2 samples")
    generator = seeded(seed)
    counts = torch.linspace(least, m, sizes, dtype=torch.float64).round()
    values = [
        frechet_distance(stats, fake[permutation(m, generator)[: int(n)]], strict=strict)
        for n in counts.tolist()
    ]
    intercept, error = line(1.0 / counts, torch.tensor(values, dtype=torch.float64))
    return Estimate(intercept, std=error, n_ref=stats.count, n_gen=m, seed=seed)


def line(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Intercept of the least-squares line through (x, y), and its standard error."""
    from scipy.stats import linregress  # type: ignore[import-untyped]

    found = linregress(x.numpy(), y.numpy())
    return float(found.intercept), float(found.intercept_stderr)


def finite_sample_bias(stats: FeatureStats, count: int) -> float:
    """``E[FD_m]`` of ``count`` samples of the very Gaussian of ``stats``, to second order in 1/m:

    ``(1/m) [tr S + sum_ij l_i l_j (1 + delta_ij) / (2 (l_i + l_j))]``, l the eigenvalues of S.
    """
    instance("stats", stats, FeatureStats, "FeatureStats")
    at_least_one("count", count)
    values = torch.linalg.eigvalsh(stats.cov).clamp_min(0.0)
    sums = values[:, None] + values[None, :]
    pairs = torch.where(sums > 0.0, values[:, None] * values[None, :] / (2.0 * sums), 0.0)
    return float(values.sum() + pairs.sum() + pairs.trace()) / count

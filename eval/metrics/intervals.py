"""Confidence intervals for the Frechet distance, and its extrapolation to infinitely many samples.

The distance of m samples is too large by about ``c / m`` (Binkowski et al. 2018, arXiv 1801.01401;
Chong & Forsyth 2020, arXiv 1911.07023), and that of a resample by about twice as much, so a
percentile interval is shifted. The basic bootstrap interval ``[2 FD - q_high, 2 FD - q_low]``
(Davison & Hinkley 1997, section 5.2) removes that bias to first order.
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

#: largest number of resamples, and of subset sizes
MOST = 1_000_000


@dataclass(frozen=True)
class Estimate:
    """An estimated value with its uncertainty and sample sizes.

    Attributes:
        value: the estimate.
        low, high: ends of the interval of confidence ``level``; None where there is none.
        std: standard deviation of the estimate, or of its parts (see the function).
        level: confidence level of the interval.
        n_ref, n_gen: numbers of samples.
        seed: of the random draws; None without any.
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
    resampled too, or ``FeatureStats``, which are treated as exact. ``value`` is bias-corrected (2
    FD minus the mean of the resampled distances) and may be negative for equal distributions;
    ``frechet_distance`` gives the usual value. m must be well above q.
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
    """A bootstrap resample: as many rows, drawn with replacement."""
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
    """Frechet distance extrapolated to infinitely many generated samples: the intercept of ``FD_N``
    over ``1/N`` (Chong & Forsyth 2020, section 4).

    ``sizes`` subsets of ``generated`` (m, q) are drawn without replacement, with N evenly spaced
    from ``smallest`` (default ``min(5000, m / 10)``, at least 2) to m. ``std`` is the standard
    error of the intercept. The bias of a finite reference sample remains.
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
        raise ScoreError(f"sizes={sizes}, smallest={least}: must be >= 3 and >= 2")
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
    """Expected Frechet distance of ``count`` samples drawn from the Gaussian of ``stats`` itself.

    To first order in 1/m: ``(1/m) [tr S + sum_ij l_i l_j (1 + delta_ij) / (2 (l_i + l_j))]``, l the
    eigenvalues of the covariance S.
    """
    instance("stats", stats, FeatureStats, "FeatureStats")
    at_least_one("count", count)
    values = torch.linalg.eigvalsh(stats.cov).clamp_min(0.0)
    sums = values[:, None] + values[None, :]
    pairs = torch.where(sums > 0.0, values[:, None] * values[None, :] / (2.0 * sums), 0.0)
    return float(values.sum() + pairs.sum() + pairs.trace()) / count

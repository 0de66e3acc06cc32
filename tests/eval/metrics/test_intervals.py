"""Intervals of a Frechet distance: their level, the bootstrap behind them redone, and the line that
extrapolates to endless samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from fewstep.eval import FeatureStats, frechet_distance
from fewstep.eval.metrics.intervals import (
    finite_sample_bias,
    frechet_infinity,
    frechet_interval,
    line,
)

F64 = torch.float64


def normal(n: int, q: int, seed: int) -> torch.Tensor:
    return torch.randn(n, q, dtype=F64, generator=torch.Generator().manual_seed(seed))


REFERENCE = FeatureStats.from_moments(torch.zeros(3, dtype=F64), torch.eye(3, dtype=F64), None)
FAKE = 1.1 * normal(120, 3, 5) + 0.2


def resampled(count: int, seed: int) -> list[float]:
    """The distances of ``count`` resamples of the same generator."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(len(FAKE), (len(FAKE),), generator=generator) for _ in range(count)]
    return [frechet_distance(REFERENCE, FAKE[r]) for r in rows]


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_the_basic_interval_of_a_level(level: float) -> None:
    """``[2 FD - q_(1 - a/2), 2 FD - q_(a/2)]``, a = 1 - level, and the value less the bias (Davison
    & Hinkley 1997, 5.2)."""
    found = frechet_interval(REFERENCE, FAKE, resamples=60, level=level, seed=4)
    drawn, plain = resampled(60, 4), frechet_distance(REFERENCE, FAKE)
    low, high = (
        2.0 * plain - float(np.quantile(drawn, q)) for q in (0.5 + 0.5 * level, 0.5 - 0.5 * level)
    )
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-9), pytest.approx(high, rel=1e-9))
    assert found.value == pytest.approx(2.0 * plain - np.mean(drawn), rel=1e-9)
    assert found.std == pytest.approx(np.std(drawn, ddof=1), rel=1e-9)
    assert (found.level, found.n_ref, found.n_gen, found.seed) == (level, None, 120, 4)


def test_a_higher_level_is_wider() -> None:
    widths = [
        found.high - found.low
        for found in (
            frechet_interval(REFERENCE, FAKE, resamples=60, level=v) for v in (0.5, 0.8, 0.95)
        )
    ]
    assert widths == sorted(set(widths))
    assert frechet_interval(REFERENCE, FAKE, resamples=60).level == 0.95


@pytest.mark.parametrize("n", [3, 5, 15])
def test_the_line_and_its_standard_error(n: int) -> None:
    """Intercept and standard error with n - 2 degrees of freedom, as scipy has them."""
    x = torch.linspace(0.1, 2.0, n, dtype=F64) ** 2
    y = 0.7 + 1.3 * x + 0.1 * normal(n, 1, n)[:, 0]
    want = stats.linregress(x.numpy(), y.numpy())
    assert line(x, y) == (
        pytest.approx(want.intercept, rel=1e-9),
        pytest.approx(want.intercept_stderr, rel=1e-9),
    )


def test_endless_samples_are_the_intercept_over_one_over_n() -> None:
    fake = 1.1 * normal(600, 3, 3) + 0.2
    found = frechet_infinity(REFERENCE, fake, sizes=6, smallest=50, seed=2)
    generator = torch.Generator().manual_seed(2)
    counts = np.round(np.linspace(50, 600, 6))
    values = [
        frechet_distance(REFERENCE, fake[torch.randperm(600, generator=generator)[: int(n)]])
        for n in counts
    ]
    want = stats.linregress(1.0 / counts, values)
    assert found.value == pytest.approx(want.intercept, rel=1e-8)
    assert found.std == pytest.approx(want.intercept_stderr, rel=1e-6)
    default = frechet_infinity(REFERENCE, fake, seed=2)
    assert default == frechet_infinity(REFERENCE, fake, sizes=15, smallest=60, seed=2)


def test_the_bias_of_a_finite_sample() -> None:
    """``(1/m)(tr S + sum_ij l_i l_j (1 + delta_ij) / (2 (l_i + l_j)))``, and what 400 samples of
    200 show."""
    values = [0.5, 1.0, 2.0]
    stats_ = FeatureStats.from_moments(
        torch.zeros(3, dtype=F64), torch.diag(torch.tensor(values, dtype=F64)), None
    )
    double = sum(
        a * b * (1.0 + (i == j)) / (2.0 * (a + b))
        for i, a in enumerate(values)
        for j, b in enumerate(values)
    )
    assert finite_sample_bias(stats_, 200) == pytest.approx((3.5 + double) / 200, rel=1e-12)
    root = torch.tensor(values, dtype=F64).sqrt()
    seen = [frechet_distance(stats_, normal(200, 3, k) * root) for k in range(400)]
    assert abs(np.mean(seen) - finite_sample_bias(stats_, 200)) < 4.0 * np.std(seen) / math.sqrt(
        400
    )


def test_the_least_that_is_allowed() -> None:
    """Two samples make a covariance, three sizes a line, one resample an interval of no width."""
    assert (
        FeatureStats.from_moments(torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64), 2).count == 2
    )
    assert FeatureStats.from_features(normal(2, 2, 0)).count == 2
    found = frechet_infinity(REFERENCE, FAKE, sizes=3, smallest=2, strict=False)
    assert math.isfinite(found.value)
    few = normal(14, 3, 9)
    assert frechet_infinity(REFERENCE, few, strict=False) == frechet_infinity(
        REFERENCE, few, smallest=2, strict=False
    )
    one = frechet_interval(REFERENCE, FAKE, resamples=1)
    assert (one.low, one.std) == (one.high, None)
    assert one.value == one.low

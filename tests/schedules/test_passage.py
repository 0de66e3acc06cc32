"""First passage of a Bessel process: its Laplace transform against mpmath's Bessel functions, and
the law where one radius is nearly 0."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
from scipy import special, stats

from fewstep.schedules import passage

LEVELS = np.array([-2.5, -1.5, -0.7, -0.1, 0.0, 0.4, 1.0, 1.8, 2.5])


def exact_transform(D: float, low: float, high: float, s: complex) -> complex:
    with mp.workdps(40):
        nu, q = mp.mpf(D) / 2, mp.sqrt(2 * mp.mpmathify(s))
        return complex(
            (mp.mpf(high) / low) ** nu * mp.besselk(nu, high * q) / mp.besselk(nu, low * q)
        )


@pytest.mark.parametrize("D", [1.0, 7.0, 40.0, 59.0, 60.0, 61.0, 90.0, 200.0, 2048.0])
def test_the_transform_on_both_sides_of_its_expansion(D: float) -> None:
    """K_nu as scipy has it below nu = 30, its uniform expansion above."""
    mean = (1.4**2 - 1.0) / max(D - 2.0, 1.0)
    limit = 3e-8 * (60.0 / D) ** 4 + 1e-12 if D >= 60.0 else 1e-11
    for s in (0.1 / mean, 1.0 / mean, 5.0 / mean, (2.0 + 0.5j) / mean):
        want = exact_transform(D, 1.0, 1.4, s)
        assert abs(complex(passage.transform(D, 1.0, 1.4, s)) - want) <= limit * abs(want)


@pytest.mark.parametrize("nu", [30.0, 45.0, 100.0])
def test_the_uniform_expansion_of_k(nu: float) -> None:
    """``K_nu(nu z) = sqrt(pi / 2 nu) e^{-nu eta} (1 + z^2)^{-1/4} S``: three terms of S leave
    ``u_4 / nu^4``."""
    with mp.workdps(40):
        for z in (0.01, 0.2, 0.7, 1.5, 4.0):
            root = mp.sqrt(1 + mp.mpf(z) ** 2)
            eta = root + mp.log(z / (1 + root))
            exact = mp.log(mp.besselk(nu, nu * mp.mpf(z)) / mp.sqrt(mp.pi / (2 * nu))) + nu * eta
            first, second = passage.log_root(nu, z)
            assert float(first) == pytest.approx(float(eta - mp.log(z)), rel=1e-14)
            assert abs(float(second) - float(exact)) <= 0.025 / nu**4 + 1e-14


@pytest.mark.parametrize("D", [3.0, 12.0, 38.0])
def test_from_nearly_nothing_the_time_is_inverse_gamma(D: float) -> None:
    """With r_low -> 0 the passage takes ``r^2 / chi2_D``, whose quantiles are known: by the
    table."""
    found = passage.passage_time(D, 1e-4, 1.3, LEVELS)
    np.testing.assert_allclose(found, 1.3**2 / stats.chi2.isf(special.ndtr(LEVELS), D), rtol=2e-4)


@pytest.mark.parametrize(("D", "limit"), [(60.0, 8e-3), (128.0, 1.6e-3), (2048.0, 8e-6)])
def test_the_expansion_in_cumulants_where_the_time_is_narrow(D: float, limit: float) -> None:
    found = passage.passage_time(D, 1e-4, 1.3, LEVELS)
    want = 1.3**2 / stats.chi2.isf(special.ndtr(LEVELS), D)
    np.testing.assert_allclose(found, want, rtol=limit)
    inner = np.abs(LEVELS) < 1.2
    np.testing.assert_allclose(found[inner], want[inner], rtol=limit / 2.5)


@pytest.mark.parametrize("D", [9.0, 21.0, 60.0])
def test_cumulants_are_those_of_the_transform(D: float) -> None:
    """Derivatives of ``log E e^{-s W}`` at 0, and of an inverse gamma where r_low vanishes."""
    mean, variance, skewness, kurtosis = passage.cumulants(D, 1e-9, 1.0)
    want = [float(v) for v in stats.invgamma(0.5 * D, scale=0.5).stats("mvsk")]
    assert (mean, variance, skewness, kurtosis) == pytest.approx(want, rel=1e-9)
    low, high = passage.cumulants(D, 1e-9, 0.8), passage.cumulants(D, 1e-9, 1.5)
    both = passage.cumulants(D, 0.8, 1.5)
    assert both[0] == pytest.approx(high[0] - low[0], rel=1e-12)
    assert both[1] == pytest.approx(high[1] - low[1], rel=1e-12)
    third = high[2] * high[1] ** 1.5 - low[2] * low[1] ** 1.5
    fourth = high[3] * high[1] ** 2 - low[3] * low[1] ** 2
    assert both[2:] == pytest.approx((third / both[1] ** 1.5, fourth / both[1] ** 2), rel=1e-9)


@pytest.mark.parametrize("D", [1.0, 6.0, 30.0])
def test_the_distribution_and_its_rest(D: float) -> None:
    w = 1.3**2 / stats.chi2.isf(special.ndtr(LEVELS), D)
    below, above = passage.distribution(D, 1e-5, 1.3, w)
    np.testing.assert_allclose(below, special.ndtr(LEVELS), rtol=0, atol=2e-5 if D < 2.0 else 1e-8)
    np.testing.assert_allclose(below + above, 1.0, rtol=0, atol=1e-8)


def test_levels_beyond_the_table_are_its_ends() -> None:
    found = passage.passage_time(8.0, 1.0, 1.4, np.array([-40.0, -6.0, 6.0, 40.0]))
    assert found[0] == found[1] < found[2] == found[3]
    assert math.isfinite(found[3])

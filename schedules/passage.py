"""The exact jump of the PFGM++ path: first passage of a Bessel process.

Student's t with D degrees of freedom and radius r is a normal whose variance is
``T_r = r^2 / chi2_D``, the time that a Bessel process of dimension 2 - D takes from r to 0 (Getoor
1979, Ann. Probab. 7, p. 864, with the Laplace transform below). On its way from r_high it passes
r_low, so ``T_high = W + T_low`` with W >= 0 independent of what follows: adding ``sqrt(W) z`` to a
state at r_low makes one at r_high, whatever the data are. With nu = D / 2

    E e^{-s W} = (r_high / r_low)^nu K_nu(r_high q) / K_nu(r_low q),      q = sqrt(2 s),

which is inverted by Talbot's method (Abate & Valko 2004, Int. J. Numer. Meth. Engng 60, p. 979);
K_nu by its uniform expansion where nu is large (DLMF 10.41.4).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Complex = npt.NDArray[np.complex128]
Array = npt.NDArray[np.float64]

#: terms of Talbot's sum; with more, rounding errors grow
TERMS = 20
#: from here on the uniform expansion of K_nu is good to 3e-8 (``0.025 / nu^4``)
LARGE = 30.0
#: points of the table, and the quantiles (as normal levels) between which it lies
POINTS, EDGE = 512, 5.5
#: standard deviation of W in units of its mean, below which the expansion in cumulants is used
NARROW = 0.2


def log_root(nu: float, z: Any) -> tuple[Any, Any]:
    """For ``K_nu(nu z) = sqrt(pi / 2 nu) e^{-nu eta} (1 + z^2)^{-1/4} S``:
    ``sqrt(1 + z^2) - log(1 + sqrt(1 + z^2))`` (eta without log z), and
    ``log((1 + z^2)^{-1/4} S)``."""
    root = np.sqrt(1.0 + z * z)
    t = 1.0 / root
    u1 = (3.0 * t - 5.0 * t**3) / 24.0
    u2 = (81.0 * t**2 - 462.0 * t**4 + 385.0 * t**6) / 1152.0
    u3 = (30375.0 * t**3 - 369603.0 * t**5 + 765765.0 * t**7 - 425425.0 * t**9) / 414720.0
    return root - np.log1p(root), -0.5 * np.log(root) + np.log(
        1.0 - u1 / nu + u2 / nu**2 - u3 / nu**3
    )


def transform(D: float, low: float, high: float, s: Any) -> Complex:
    """The Laplace transform ``E e^{-s W}``."""
    from scipy import special  # type: ignore[import-untyped]

    nu, q = 0.5 * D, np.sqrt(2.0 * s)
    if nu >= LARGE:
        (a, b), (c, d) = log_root(nu, high * q / nu), log_root(nu, low * q / nu)
        found: Complex = np.exp(-nu * (a - c) + b - d)
        return found
    ratio: Complex = (
        special.kve(nu, high * q)
        / special.kve(nu, low * q)
        * np.exp((low - high) * q + nu * math.log(high / low))
    )
    return ratio


def distribution(D: float, low: float, high: float, w: Array) -> tuple[Array, Array]:
    """``P(W <= w)`` and ``P(W > w)``, absolute errors of about 1e-9."""
    angle = np.arange(1, TERMS) * math.pi / TERMS
    cot = 1.0 / np.tan(angle)
    delta = 0.4 * np.concatenate([[TERMS + 0.0j], TERMS * angle * (cot + 1.0j)])
    gamma = np.exp(delta) * np.concatenate(
        [[0.5 + 0.0j], 1.0 + 1.0j * angle * (1.0 + cot**2) - 1.0j * cot]
    )
    s = delta[:, None] / w
    values = transform(D, low, high, s)
    below = (0.4 / w) * (gamma[:, None] * values / s).sum(axis=0).real
    above = (0.4 / w) * (gamma[:, None] * (1.0 - values) / s).sum(axis=0).real
    return below, above


@lru_cache(maxsize=256)
def table(D: float, low: float, high: float) -> tuple[Array, Array]:
    """Normal levels, rising, and ``log W`` at them, for radii ``low < high``."""
    from scipy import special

    tail = float(special.ndtr(-EDGE))
    scale = (high * high - low * low) / (D + 2.0)

    def edge(factor: float, upper: bool) -> float:
        w = scale
        for _ in range(400):
            below, above = distribution(D, low, high, np.array([w]))
            if float((above if upper else below)[0]) < tail:
                return w
            w *= factor
        return w

    wide = 1.0 + 2.0 / math.sqrt(D + 1.0)
    w = np.geomspace(edge(1.0 / wide, False), edge(wide, True), POINTS)
    below, above = distribution(D, low, high, w)
    least = np.full(POINTS, 1e-12)
    levels = np.where(
        below < 0.5,
        special.ndtri(np.maximum(below, least)),
        -special.ndtri(np.maximum(above, least)),
    )
    levels = np.maximum.accumulate(levels)
    keep = np.concatenate([[True], np.diff(levels) > 0.0])
    return levels[keep], np.log(w[keep])


def cumulants(D: float, low: float, high: float) -> tuple[float, float, float, float]:
    """Mean, variance, skewness and excess kurtosis of W (D > 8): cumulants of ``T_high`` less those
    of ``T_low``."""
    a = 0.5 * D
    mean, variance = 0.5 / (a - 1.0), 0.25 / ((a - 1.0) ** 2 * (a - 2.0))
    third = 4.0 * math.sqrt(a - 2.0) / (a - 3.0) * variance**1.5
    fourth = 6.0 * (5.0 * a - 11.0) / ((a - 3.0) * (a - 4.0)) * variance**2
    k1, k2, k3, k4 = (
        c * (high ** (2 * n) - low ** (2 * n))
        for n, c in enumerate((mean, variance, third, fourth), 1)
    )
    return k1, k2, k3 / k2**1.5, k4 / k2**2


def passage_time(D: float, low: float, high: float, level: Array) -> Array:
    """W (n,) for radii ``low < high`` at standard normal levels: its quantiles at Phi(level).

    Where W is narrow, at large D, Talbot's sum loses its precision, and the Cornish-Fisher
    expansion is used (relative error 1e-3, 1e-2 beyond 3 sigma).
    """
    if D > 40.0:
        mean, variance, skewness, kurtosis = cumulants(D, low, high)
        if math.sqrt(variance) < NARROW * mean:
            z = np.clip(level, -EDGE, EDGE)
            bend = (
                skewness / 6.0 * (z**2 - 1.0)
                + kurtosis / 24.0 * (z**3 - 3.0 * z)
                - skewness**2 / 36.0 * (2.0 * z**3 - 5.0 * z)
            )
            narrow: Array = mean + math.sqrt(variance) * (z + bend)
            return narrow
    levels, logs = table(D, low, high)
    found: Array = np.exp(np.interp(level, levels, logs))
    return found

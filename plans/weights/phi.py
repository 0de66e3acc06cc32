"""The phi functions of exponential integrators, and the moments and means made from them.

    phi_0(z) = e^z,   phi_{k+1}(z) = (phi_k(z) - 1/k!) / z,   phi_k(0) = 1/k!
    phi_k(z) = int_0^1 e^{(1 - theta) z} theta^{k-1} / (k-1)! dtheta,   k >= 1

(Hochbruck & Ostermann 2010, Acta Numerica 19, eq. 2.10). The recursion loses ``k log10(1/|z|)``
digits for small z, where the Taylor series ``sum_j z^j / (j + k)!`` is summed instead. Everything
is float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...checks import ArgumentError

Array = NDArray[np.float64]

_FACTORIALS = (1, 1, 2, 6, 24, 120, 720, 5040)
#: beyond this z the moments are k!/z^k to rounding (what is left out is of the size z^k e^-z), and
#: e^z need not be formed
_LARGE = 100.0
#: nodes of one quadrature panel on [0, 1]
_X, _W = (
    (np.polynomial.legendre.leggauss(16)[0] + 1.0) / 2.0,
    np.polynomial.legendre.leggauss(16)[1] / 2.0,
)
#: how often a panel is halved before its value is accepted (a table's map has a kink at every
#: entry)
_HALVINGS = 5
#: a panel is accepted when halving it changes the result by less, relative to the largest mean
_TOLERANCE = 1e-13


def phi(k: int, z: float) -> float:
    """``phi_k(z)`` to a few units in the last place, for any real z.

    ``phi_k(-inf)`` is its limit 0; where the value exceeds the largest float it is inf. ValueError
    for k < 0 and for NaN.
    """
    if k < 0:
        raise ArgumentError(f"phi has an index k >= 0, got k={k!r}")
    if math.isnan(z):
        raise ArgumentError("phi of NaN")
    if math.isinf(z):
        return 0.0 if z < 0.0 else math.inf
    try:
        if k == 0:
            return math.exp(z)
        if k > 1 and abs(z) <= 0.5 * (k + 1):
            return _taylor(k, z)
        value = math.expm1(z) / z if z else 1.0
    except OverflowError:
        return math.inf
    inverse = 1.0
    for j in range(1, k):
        inverse /= j
        value = (value - inverse) / z
    return value


def _taylor(k: int, z: float) -> float:
    term = total = 1.0 / _FACTORIALS[k] if k < 8 else 1.0 / math.factorial(k)
    while abs(term) > 1e-18 * abs(total):
        k += 1
        term *= z / k
        total += term
    return total


def moments(n: int, z: float) -> tuple[float, ...]:
    """``n`` normalised moments ``int e^{(1-theta) z} theta^k dtheta / int e^{(1-theta) z} dtheta``
    on [0, 1], k < n.

    Equal to ``k! phi_{k+1}(z) / phi_1(z)``; 1/(k + 1) at z = 0, 1 at z = -inf, and ``k! / z^k`` for
    large z.
    """
    if z == 0.0:
        return tuple(1.0 / (k + 1) for k in range(n))
    if z == -math.inf:
        return (1.0,) * n
    if z > _LARGE:
        return tuple(math.factorial(k) / z**k for k in range(n))
    first = phi(1, z)
    if n == 2:
        return 1.0, phi(2, z) / first
    return (1.0, *[math.factorial(k) * phi(k + 1, z) / first for k in range(1, n)])


def kernel_means(
    values: Callable[[Array], Array], rate: float, length: float, noise: float = 0.0
) -> Array:
    """Means ``int e^{-rate y} f(y) dy / int e^{-rate y} dy`` over [0, length] of functions that sum
    to 1.

    Args:
        values: maps points (m,) to the functions' values (n, m).
        rate, length: rate >= 0, 0 < length < inf.
        noise: relative rounding error of ``values``; no accuracy below it is looked for.

    Gauss-Legendre with 16 nodes on panels, which are halved until nothing changes. The means sum to
    1.
    """

    def panels(start: Array, width: Array) -> Array:
        y = start[:, None] + width[:, None] * _X
        weight = np.exp(-rate * y) * width[:, None] * _W
        found: Array = np.einsum("nmi,mi->nm", values(y.ravel()).reshape(-1, *y.shape), weight)
        return found

    count = max(1, math.ceil(length * max(0.5, 0.2 * rate)))
    width = np.full(count, length / count)
    start = np.arange(count) * width
    half = 0.5 * width
    starts, widths = (
        np.concatenate([start, start, start + half]),
        np.concatenate([width, half, half]),
    )
    # the panels and their halves in one call, which costs less than two
    both = panels(starts, widths)
    halves, half = starts[count:], widths[count:]
    coarse, fine = both[:, :count], both[:, count:]
    limit = max(_TOLERANCE, noise) * max(map(abs, coarse.sum(axis=1).tolist()))
    total = np.zeros(len(coarse))
    for left in reversed(range(_HALVINGS)):
        pairs = fine[:, : len(start)] + fine[:, len(start) :]
        rough = np.abs(pairs - coarse).max(axis=0) > limit
        total += pairs[:, ~rough].sum(axis=1)
        if not rough.any():
            break
        again = np.concatenate([rough, rough])
        start, width, coarse = halves[again], half[again], fine[:, again]
        if left:
            halves, half = _halved(start, width)
            fine = panels(halves, half)
    else:
        total += coarse.sum(axis=1)
    mean: Array = total / total.sum()
    return mean


def _halved(start: Array, width: Array) -> tuple[Array, Array]:
    """Starts and widths of the first halves of all panels, then of the second halves."""
    half = 0.5 * width
    return np.concatenate([start, start + half]), np.concatenate([half, half])

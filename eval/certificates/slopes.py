"""Convergence orders: least-squares slopes of errors on a log-log scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: errors below this are rounding
FLOOR = 1e-12


def slope(errors: Sequence[tuple[float, float]]) -> float:
    """Minus the least-squares slope of log error against log n, from pairs (n, error).

    n is a number of steps (the slope is then the order of convergence) or a tolerance. NaN for a
    single pair.
    """
    if len(errors) < 2:
        return math.nan
    from scipy.stats import linregress  # type: ignore[import-untyped]

    n, error = zip(*errors, strict=True)
    return -float(linregress([math.log(v) for v in n], [math.log(v) for v in error]).slope)

"""Central differences of fourth order on an interval, one-sided next to its ends."""

from __future__ import annotations

import numpy as np


def stencil(at: float, step: float, low: float, high: float) -> list[tuple[float, float]]:
    """Return ``(place, weight)`` of five places ``step`` apart within [low, high], around ``at``
    where they fit, such that ``sum weight f(place)`` is ``f'(at)`` up to ``O(step^4)``.

    ``step`` is made smaller where five places do not fit. Places of weight 0 are left out.
    """
    step = min(step, (high - low) / 5.0)
    below = 2
    while below > 0 and at - below * step < low:
        below -= 1
    while below < 4 and at + (4 - below) * step > high:
        below += 1
    offsets = np.arange(5.0) - below
    powers = np.vander(offsets, 5, increasing=True).T
    weights = np.linalg.solve(powers, np.array([0.0, 1.0, 0.0, 0.0, 0.0])) / step
    return [
        (at + float(o) * step, float(w))
        for o, w in zip(offsets, weights, strict=True)
        if abs(w) * step > 1e-9
    ]

"""The grid uniform in ``atan rho``, derived from an upper bound of the KL divergence (Sabour et al.
2024, arXiv 2404.14507, appendix)."""

from __future__ import annotations

import math

from ..frame import Frame, ramp
from ..registry import NoOptions, register


@register("kl_optimal")
def kl_optimal(frame: Frame, options: NoOptions) -> list[float]:
    """Uniform in ``atan rho``, which is finite at rho = inf and rho = 0, so that the ends are the
    schedule's own."""
    schedule = frame.schedule
    first, last = math.atan(schedule.rho(frame.top)), math.atan(schedule.rho(frame.bottom))
    angles = last + ramp(frame.closed_count(False)) * (first - last)
    inner = [schedule.time_at_lam(-math.log(math.tan(v))) for v in angles[1:-1]]
    return frame.closed([frame.top, *inner, frame.bottom][: len(angles)])

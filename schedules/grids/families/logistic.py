"""The grid ``logistic``: uniform in the logistic distribution of log rho, rho = sigma / alpha.

    log rho(u) = log(center sigma_data) + spread log(u / (1 - u))

is the quantile function of a logistic distribution with location ``log(center sigma_data)`` and
scale ``spread``. u falls uniformly from the probability of the first rho (1 where alpha = 0, so
that no finite start level is needed) to 0. The nodes are therefore densest around the noise level
``center sigma_data``, where the state passes from noise to data, and thin out as powers of u and
1 - u on both sides. The shift s of a flow multiplies the levels by s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....checks import between
from ..frame import Frame
from ..registry import register

#: numpy array of float64
Floats = Any


@dataclass(frozen=True)
class Logistic:
    """``sigma_data`` > 0: standard deviation of the data, in the units of x0. ``center`` > 0: the
    densest level, in units of ``sigma_data``. ``spread`` > 0: scale of the distribution of log
    rho."""

    sigma_data: float = 0.5
    center: float = 1.5
    spread: float = 1.5

    def __post_init__(self) -> None:
        for name in ("sigma_data", "center", "spread"):
            between(name, getattr(self, name), 0)

    @property
    def location(self) -> float:
        """The densest half log-SNR, ``-log(center sigma_data)``."""
        return -math.log(self.center * self.sigma_data)

    def probability(self, lam: float) -> float:
        """``u = 1 / (1 + e^((lam - location) / spread))``."""
        return 1.0 / (1.0 + math.exp(min((lam - self.location) / self.spread, 700.0)))

    def lam(self, u: Floats) -> Floats:
        """The half log-SNR at the probabilities u in (0, 1)."""
        return self.location - self.spread * (np.log(u) - np.log1p(-u))


@register("logistic", in_t=True)
def logistic(frame: Frame, options: Logistic) -> list[float]:
    """u uniform from the first level to 0, or to the least level of the path if that comes before
    the last step; then sigma = 0. With ``final="sigma_min"`` u ends at the least level."""
    n, schedule = frame.steps, frame.schedule
    moved = math.log(frame.shift)
    first = options.probability(schedule.lam(frame.top) + moved)
    least = options.probability(schedule.lam(frame.bottom) + moved)
    closed = frame.final == "sigma_min" and not frame.reaches_zero
    last = least if closed else max(first / n, least)
    u = np.linspace(first, last, n + 1 if closed else n)
    inner = [schedule.time_at_lam(float(lam)) for lam in options.lam(u[1:]) - moved]
    times = [frame.top, *inner]
    if n > 1 and last == least:
        times[-1] = frame.bottom
    return frame.closed(times) if closed else frame.open(times)

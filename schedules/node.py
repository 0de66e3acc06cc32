"""A point of the noising path, ``x_t = alpha x0 + sigma eps``, as float64 host numbers.

``lam = log(alpha / sigma)`` is the half log-SNR and ``rho = sigma / alpha`` the noise-to-signal
ratio; ``alpha = 0`` (lam = -inf, rho = inf) and ``sigma = 0`` (lam = inf, rho = 0) are legal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """One time of a schedule with everything a coefficient may need.

    ``t`` is the schedule's own time (None where unknown); ``dalpha``, ``dsigma`` are d/dt of
    ``alpha``, ``sigma`` (None where unknown, needed only by velocities).
    """

    alpha: float
    sigma: float
    t: float | None = None
    dalpha: float | None = None
    dsigma: float | None = None

    @property
    def lam(self) -> float:
        """Half log-SNR, ``log(alpha / sigma)``; -inf at alpha = 0 and +inf at sigma = 0."""
        if self.sigma == 0.0:
            return math.inf
        if self.alpha == 0.0:
            return -math.inf
        return math.log(self.alpha) - math.log(self.sigma)

    @property
    def rho(self) -> float:
        """Noise-to-signal ratio ``sigma / alpha``; inf at alpha = 0."""
        return math.inf if self.alpha == 0.0 else self.sigma / self.alpha

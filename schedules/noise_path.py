"""Path of networks whose time is a function of sigma, not a table's index, in the coordinates of
their input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .base import Real, Schedule, like, namespace


@dataclass(frozen=True)
class NoisePath(Schedule):
    """``x = (x0 + s eps) / sqrt(s^2 + sigma_data^2)`` at ``t = log(s) / 4``: c_in and c_noise of
    Karras et al. 2022, arXiv 2206.00364, table 1. sigma = 0 is t = -inf, where a state is
    x0 / sigma_data; grids therefore end at a node with alpha = 1 instead."""

    sigma_data: float = 1.0
    t_max: ClassVar[float] = 5.0
    t_min: ClassVar[float] = -5.0
    t_zero: ClassVar[float] = -math.inf

    def alpha(self, t: Real) -> Real:
        """``1 / sqrt(s^2 + sigma_data^2)``."""
        xp = namespace(t)
        return like(t, 1.0 / xp.sqrt(xp.exp(8.0 * t) + self.sigma_data**2))

    def sigma(self, t: Real) -> Real:
        """``s alpha``."""
        return like(t, namespace(t).exp(4.0 * t)) * self.alpha(t)

    def dalpha(self, t: Real) -> Real:
        """``-4 s^2 alpha^3``."""
        return -4.0 * self.sigma(t) ** 2 * self.alpha(t)

    def dsigma(self, t: Real) -> Real:
        """``4 sigma sigma_data^2 alpha^2``."""
        return 4.0 * self.sigma(t) * (self.sigma_data * self.alpha(t)) ** 2

    def t_of_lam(self, lam: Real) -> Real:
        """``-lam / 4``."""
        return -0.25 * lam

"""Variance-exploding paths, ``alpha = 1``.

    VE    sigma(t) = sigma_min (sigma_max / sigma_min)^t, t in [0, 1]
          Song et al. 2021, arXiv 2011.13456, appendix C
    EDM   sigma(t) = t, t in [sigma_min, sigma_max]
          Karras et al. 2022, arXiv 2206.00364, table 1

sigma = 0 is t = -inf for VE and t = 0 for EDM. The start state is ``sigma_max * z``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..checks import ArgumentError
from .base import Real, Schedule, like, namespace, pick
from .registry import register


class Exploding(Schedule):
    """Base of VE and EDM: ``alpha = 1``."""

    def alpha(self, t: Real) -> Real:
        """1."""
        return 1.0 if isinstance(t, (float, int)) else namespace(t).ones_like(t)

    def dalpha(self, t: Real) -> Real:
        """0."""
        return 0.0 if isinstance(t, (float, int)) else namespace(t).zeros_like(t)

    def f(self, t: Real) -> Real:
        """0."""
        return self.dalpha(t)

    def g2(self, t: Real) -> Real:
        """``d sigma^2 / dt``."""
        return 2.0 * self.sigma(t) * self.dsigma(t)


def check_range(low: float, high: float) -> None:
    """Raise ArgumentError unless 0 < low < high < inf."""
    if not (0.0 < low < high < math.inf):
        raise ArgumentError(
            f"sigma_min={low!r}, sigma_max={high!r} must be 0 < sigma_min < sigma_max < inf"
        )


@register
@dataclass(frozen=True)
class VE(Exploding):
    """Geometric sigma on t in [0, 1]; t < 0 continues below sigma_min, t = -inf is sigma = 0."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_min: ClassVar[float] = 0.0
    t_max: ClassVar[float] = 1.0
    t_zero: ClassVar[float] = -math.inf

    def __post_init__(self) -> None:
        self.check_numbers()
        check_range(self.sigma_min, self.sigma_max)

    @property
    def prior_scale(self) -> float:
        """sigma_max."""
        return self.sigma_max

    @property
    def rate(self) -> float:
        """``log(sigma_max / sigma_min)``."""
        return math.log(self.sigma_max / self.sigma_min)

    def sigma(self, t: Real) -> Real:
        """``sigma_min e^{rate t}``, formed from the nearer end."""
        xp = namespace(t)
        low, high = self.sigma_min, self.sigma_max
        return like(
            t,
            pick(
                t < 0.5,
                lambda: low * xp.exp(self.rate * t),
                lambda: high * xp.exp(self.rate * (t - 1.0)),
            ),
        )

    def dsigma(self, t: Real) -> Real:
        """``rate sigma``."""
        return self.rate * self.sigma(t)

    def dlam(self, t: Real) -> Real:
        """``-rate``."""
        return 0.0 * self.alpha(t) - self.rate

    def t_of_lam(self, lam: Real) -> Real:
        """``(-lam - log sigma_min) / rate``."""
        return (-lam - math.log(self.sigma_min)) / self.rate


@register
@dataclass(frozen=True)
class EDM(Exploding):
    """``sigma = t``; grids end at t_min = sigma_min, smaller times down to t = 0 (no noise) are
    legal."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        self.check_numbers()
        check_range(self.sigma_min, self.sigma_max)

    @property
    def t_min(self) -> float:
        """sigma_min."""
        return self.sigma_min

    @property
    def t_max(self) -> float:
        """sigma_max."""
        return self.sigma_max

    @property
    def prior_scale(self) -> float:
        """sigma_max."""
        return self.sigma_max

    def sigma(self, t: Real) -> Real:
        """``t``."""
        return like(t, t)

    def dsigma(self, t: Real) -> Real:
        """1."""
        return self.alpha(t)

    def t_of_lam(self, lam: Real) -> Real:
        """``e^{-lam}``."""
        return like(lam, namespace(lam).exp(-lam))

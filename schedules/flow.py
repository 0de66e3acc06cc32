"""Paths from data to noise on t in [0, 1] with alpha(1) = 0 and sigma(0) = 0.

Flow   alpha = 1 - t          sigma = t              Liu et al. 2022, arXiv 2209.03003; Lipman et
                                                     al. 2022, arXiv 2210.02747
Trig   alpha = cos(pi t / 2)  sigma = sin(pi t / 2)  Albergo & Vanden-Eijnden 2022, arXiv 2209.15571
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..checks import ArgumentError
from .base import LAM_EDGE, Real, Schedule, like, namespace, pick, ratio, softplus
from .registry import register

HALF_PI = 0.5 * math.pi


@register
@dataclass(frozen=True)
class Flow(Schedule):
    """Rectified flow. ``shift`` s moves the times of grids that are spaced in t:
    ``t -> s t / (1 + (s - 1) t)``, which is lam -> lam - log s (Esser et al. 2024, arXiv
    2403.03206, eq. 23). The path itself, and the t a network is fed, do not depend on it."""

    shift: float = 1.0
    t_min: ClassVar[float] = 0.0
    t_max: ClassVar[float] = 1.0
    lam_start: ClassVar[float] = -LAM_EDGE
    lam_end: ClassVar[float] = LAM_EDGE

    def __post_init__(self) -> None:
        self.check_numbers()
        if not 0.0 < self.shift < math.inf:
            raise ArgumentError(f"shift={self.shift!r} must be 0 < shift < inf")

    @classmethod
    def examples(cls) -> tuple[Schedule, ...]:
        """Without and with a shift."""
        return cls(), cls(3.0)

    @classmethod
    def dynamic(
        cls,
        tokens: int,
        base_shift: float = 0.5,
        max_shift: float = 1.15,
        base_tokens: int = 256,
        max_tokens: int = 4096,
    ) -> Flow:
        """Resolution-dependent shift ``s = e^mu``, mu linear in the number of latent tokens (arXiv
        2403.03206, section 5.3.2; the constants are those published with FLUX.1)."""
        if tokens <= 0 or base_tokens == max_tokens:
            raise ArgumentError(
                f"tokens={tokens!r}, base_tokens={base_tokens!r}, max_tokens={max_tokens!r}: "
                "must be tokens > 0 and two different ends"
            )
        slope = (max_shift - base_shift) / (max_tokens - base_tokens)
        return cls(math.exp(base_shift + slope * (tokens - base_tokens)))

    def alpha(self, t: Real) -> Real:
        """``1 - t``."""
        return like(t, 1.0 - t)

    def sigma(self, t: Real) -> Real:
        """``t``."""
        return like(t, t)

    def dalpha(self, t: Real) -> Real:
        """-1."""
        return -1.0 if isinstance(t, (float, int)) else -namespace(t).ones_like(t)

    def dsigma(self, t: Real) -> Real:
        """1."""
        return 1.0 if isinstance(t, (float, int)) else namespace(t).ones_like(t)

    def g2(self, t: Real) -> Real:
        """``2 t / (1 - t)``."""
        return ratio(2.0 * t, 1.0 - t)

    def shifted(self, t: float, shift: float) -> float:
        """``shift t / (1 + (shift - 1) t)``."""
        return shift * t / (1.0 + (shift - 1.0) * t)

    def t_of_lam(self, lam: Real) -> Real:
        """``1 / (1 + e^lam)``."""
        return like(lam, namespace(lam).exp(-softplus(lam)))


@register
@dataclass(frozen=True)
class Trig(Schedule):
    """The trigonometric (variance-preserving) interpolant."""

    t_min: ClassVar[float] = 0.0
    t_max: ClassVar[float] = 1.0
    lam_start: ClassVar[float] = -LAM_EDGE
    lam_end: ClassVar[float] = LAM_EDGE

    def alpha(self, t: Real) -> Real:
        """``cos(pi t / 2)``, from the complement in the second half so that it keeps its digits
        near t = 1."""
        xp = namespace(t)
        return like(
            t, pick(t < 0.5, lambda: xp.cos(HALF_PI * t), lambda: xp.sin(HALF_PI * (1.0 - t)))
        )

    def sigma(self, t: Real) -> Real:
        """``sin(pi t / 2)``."""
        return like(t, namespace(t).sin(HALF_PI * t))

    def dalpha(self, t: Real) -> Real:
        """``-pi/2 sigma``."""
        return -HALF_PI * self.sigma(t)

    def dsigma(self, t: Real) -> Real:
        """``pi/2 alpha``."""
        return HALF_PI * self.alpha(t)

    def g2(self, t: Real) -> Real:
        """``pi tan(pi t / 2)``."""
        return math.pi * self.rho(t)

    def t_of_lam(self, lam: Real) -> Real:
        """``(2/pi) atan(e^{-lam})``."""
        xp = namespace(lam)
        return like(lam, xp.arctan(xp.exp(-lam)) / HALF_PI)

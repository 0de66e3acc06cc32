"""Variance-preserving paths, ``alpha^2 + sigma^2 = 1``, and sub-VP, ``sigma = 1 - alpha^2``.

With ``L(t) = -log alpha^2 = int_0^t beta`` (Song et al. 2021, arXiv 2011.13456, appendix B):

    VP       alpha = e^{-L/2}, sigma = sqrt(1 - e^{-L})
             dx = -beta/2 x dt + sqrt(beta) dW
    sub-VP   alpha = e^{-L/2}, sigma = 1 - e^{-L}
             dx = -beta/2 x dt + sqrt(beta (1 - e^{-2L})) dW

``sigma`` is formed with expm1, or from its own closed form, so that it keeps its relative precision
where alpha is close to 1.

    VPLinear    beta linear in t
    VPCosine    alpha = cos(w (t + s)) / cos(w s), w = pi / (2 (1 + s)), s = 0.008
                Nichol & Dhariwal, arXiv 2102.09672, eq. 17
    VPSigmoid   alpha^2 = (S(e/tau) - S(z)) / (S(e/tau) - S(s/tau)), z = ((e - s) t + s) / tau
                S the logistic function; Jabri et al., arXiv 2212.11972
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..checks import ArgumentError
from .base import Real, Schedule, like, namespace, pick, ratio, softplus
from .registry import register

#: VPCosine: w = pi / (2 (1 + s)), tan(w s), cos(w s)
COSINE_RATE = 0.5 * math.pi / 1.008
COSINE_TAN = math.tan(COSINE_RATE * 0.008)
COSINE_NORM = math.cos(COSINE_RATE * 0.008)


class VP(Schedule):
    """Base of the variance-preserving paths; a subclass gives ``minus_log``, ``beta`` and
    ``t_of_minus_log``."""

    def minus_log(self, t: Real) -> Real:
        """``L(t) = -log alpha^2``."""
        raise NotImplementedError

    def beta(self, t: Real) -> Real:
        """``dL/dt``, the noise rate of the forward SDE."""
        raise NotImplementedError

    def t_of_minus_log(self, big_l: Real) -> Real:
        """Inverse of ``minus_log``."""
        raise NotImplementedError

    def alpha(self, t: Real) -> Real:
        """``e^{-L/2}``."""
        return like(t, namespace(t).exp(-0.5 * self.minus_log(t)))

    def sigma(self, t: Real) -> Real:
        """``sqrt(1 - e^{-L})``."""
        xp = namespace(t)
        return like(t, xp.sqrt(-xp.expm1(-self.minus_log(t))))

    def dalpha(self, t: Real) -> Real:
        """``-beta alpha / 2``."""
        return -0.5 * self.beta(t) * self.alpha(t)

    def dsigma(self, t: Real) -> Real:
        """``beta alpha^2 / (2 sigma)``, infinite at t = 0."""
        alpha = self.alpha(t)
        return ratio(0.5 * self.beta(t) * alpha * alpha, self.sigma(t))

    def dlam(self, t: Real) -> Real:
        """``-beta / (2 sigma^2)``."""
        sigma = self.sigma(t)
        return ratio(-0.5 * self.beta(t), sigma * sigma)

    def f(self, t: Real) -> Real:
        """``-beta / 2``."""
        return -0.5 * self.beta(t)

    def g2(self, t: Real) -> Real:
        """``beta``."""
        return self.beta(t)

    def t_of_lam(self, lam: Real) -> Real:
        """From ``L = log(1 + e^{-2 lam})``."""
        return self.t_of_minus_log(softplus(-2.0 * lam))


@register
@dataclass(frozen=True)
class VPLinear(VP):
    """``beta(t) = beta_min + (beta_max - beta_min) t`` on [0, 1]; grids end at t_min = 1e-3 (arXiv
    2011.13456, eq. 33)."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: ClassVar[float] = 1e-3
    t_max: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        self.check_numbers()
        check_betas(self.beta_min, self.beta_max)

    @classmethod
    def examples(cls) -> tuple[Schedule, ...]:
        """The paper's range of beta, and one from 0."""
        return cls(), cls(0.0, 12.0)

    def minus_log(self, t: Real) -> Real:
        """``beta_min t + (beta_max - beta_min) t^2 / 2``."""
        return t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t)

    def beta(self, t: Real) -> Real:
        """``beta_min + (beta_max - beta_min) t``."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def t_of_minus_log(self, big_l: Real) -> Real:
        """The positive root of the quadratic, in the form without cancellation."""
        root = namespace(big_l).sqrt(
            self.beta_min**2 + 2.0 * (self.beta_max - self.beta_min) * big_l
        )
        return like(big_l, 2.0 * big_l / (root + self.beta_min))


@register
@dataclass(frozen=True)
class SubVP(VPLinear):
    """``sigma = 1 - alpha^2`` (not its root) with the alpha of VPLinear (arXiv 2011.13456, eq. 13
    and appendix B)."""

    def sigma(self, t: Real) -> Real:
        """``1 - e^{-L}``."""
        return like(t, -namespace(t).expm1(-self.minus_log(t)))

    def dsigma(self, t: Real) -> Real:
        """``beta e^{-L}``."""
        alpha = self.alpha(t)
        return self.beta(t) * alpha * alpha

    def dlam(self, t: Real) -> Real:
        """``-beta/2 - beta e^{-L} / sigma``."""
        return -0.5 * self.beta(t) - ratio(self.dsigma(t), self.sigma(t))

    def g2(self, t: Real) -> Real:
        """``beta (1 - e^{-2L})``."""
        return like(t, -self.beta(t) * namespace(t).expm1(-2.0 * self.minus_log(t)))

    def t_of_lam(self, lam: Real) -> Real:
        """``e^{-lam} = 2 sinh(L/2)``, so ``L = 2 asinh(e^{-lam} / 2)``."""
        xp = namespace(lam)
        return self.t_of_minus_log(like(lam, 2.0 * xp.arcsinh(0.5 * xp.exp(-lam))))


@register
@dataclass(frozen=True)
class VPCosine(VP):
    """The cosine path, alpha^2 = cos^2; ``t <= t_max = 0.9946`` keeps alpha >= 0.0085 (arXiv
    2206.00927, appendix D.4).

    With ``d = w t`` the closed form ``1 - alpha = 2 sin^2(d/2) + tan(w s) sin(d)`` has no
    cancellation near t = 0.
    """

    offset: ClassVar[float] = 0.008
    t_min: ClassVar[float] = 1e-3
    t_max: ClassVar[float] = 0.9946

    def _defect(self, t: Real) -> Real:
        xp = namespace(t)
        half = xp.sin(0.5 * COSINE_RATE * t)
        return 2.0 * half * half + COSINE_TAN * xp.sin(COSINE_RATE * t)

    def minus_log(self, t: Real) -> Real:
        """``-2 log alpha``."""
        xp = namespace(t)
        m = self._defect(t)
        return like(
            t, pick(t < 0.5, lambda: -2.0 * xp.log1p(-m), lambda: -2.0 * xp.log(self.alpha(t)))
        )

    def alpha(self, t: Real) -> Real:
        """``1 - (1 - alpha)`` in the first half, the sine of the complement in the second."""
        xp = namespace(t)
        return like(
            t,
            pick(
                t < 0.5,
                lambda: 1.0 - self._defect(t),
                lambda: xp.sin(COSINE_RATE * (1.0 - t)) / COSINE_NORM,
            ),
        )

    def sigma(self, t: Real) -> Real:
        """``sqrt((1 - alpha)(1 + alpha))``, from ``1 - alpha``."""
        m = self._defect(t)
        return like(t, namespace(t).sqrt(m * (2.0 - m)))

    def beta(self, t: Real) -> Real:
        """``2 w tan(w (t + s))``, through the complement in the second half."""
        xp = namespace(t)
        near = 2.0 * COSINE_RATE * xp.tan(COSINE_RATE * (t + self.offset))
        return like(
            t,
            pick(
                t < 0.5,
                lambda: near,
                lambda: ratio(2.0 * COSINE_RATE, xp.tan(COSINE_RATE * (1.0 - t))),
            ),
        )

    def t_of_minus_log(self, big_l: Real) -> Real:
        """``d = 2 atan(m / (T + sqrt(T^2 + m (2 - m))))`` with ``m = 1 - alpha``,
        ``T = tan(w s)``."""
        xp = namespace(big_l)
        m = -xp.expm1(-0.5 * big_l)
        return like(
            big_l,
            2.0
            * xp.arctan(m / (COSINE_TAN + xp.sqrt(COSINE_TAN**2 + m * (2.0 - m))))
            / COSINE_RATE,
        )


@register
@dataclass(frozen=True)
class VPSigmoid(VP):
    """``alpha^2`` a rescaled sigmoid of t (arXiv 2212.11972, algorithm 1; s = -3, e = 3, tau = 1
    there).

    ``alpha^2`` and ``1 - alpha^2`` both use
    ``S(b) - S(a) = sinh((b - a)/2) / (2 cosh(a/2) cosh(b/2))``, so neither cancels. The path
    reaches alpha = 0 at t = 1 with a vertical tangent; t_max = 0.9999 (lam = -5.2) stops before it,
    where the paper clips ``alpha^2`` at 1e-9.
    """

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0
    t_min: ClassVar[float] = 1e-3
    t_max: ClassVar[float] = 0.9999

    def __post_init__(self) -> None:
        self.check_numbers()
        if not (
            self.start < self.end
            and 0.0 < self.tau < math.inf
            and self.end - self.start < 100.0 * self.tau
        ):
            raise ArgumentError(f"{self!r}: must be start < end < start + 100 tau, tau > 0")

    @classmethod
    def examples(cls) -> tuple[Schedule, ...]:
        """Two of the paper's choices of start, end and tau."""
        return cls(), cls(0.0, 3.0, 0.7)

    @property
    def _z(self) -> tuple[float, float, float]:
        """``z0 / 2, z1 / 2`` and ``(z1 - z0) / 2``."""
        return (
            0.5 * self.start / self.tau,
            0.5 * self.end / self.tau,
            0.5 * (self.end - self.start) / self.tau,
        )

    def alpha(self, t: Real) -> Real:
        """``sqrt(sinh(span (1 - t)) cosh(z0/2) / (sinh(span) cosh(z/2)))``."""
        xp, (z0, _, span) = namespace(t), self._z
        top = xp.sinh(span * (1.0 - t)) * math.cosh(z0) / math.sinh(span)
        return like(t, xp.sqrt(top / xp.cosh(z0 + span * t)))

    def sigma(self, t: Real) -> Real:
        """``sqrt(sinh(span t) cosh(z1/2) / (sinh(span) cosh(z/2)))``."""
        xp, (z0, z1, span) = namespace(t), self._z
        top = xp.sinh(span * t) * math.cosh(z1) / math.sinh(span)
        return like(t, xp.sqrt(top / xp.cosh(z0 + span * t)))

    def minus_log(self, t: Real) -> Real:
        """``-2 log alpha``, through sigma in the first half."""
        xp = namespace(t)
        sigma = self.sigma(t)
        return like(
            t,
            pick(t < 0.5, lambda: -xp.log1p(-sigma * sigma), lambda: -2.0 * xp.log(self.alpha(t))),
        )

    def beta(self, t: Real) -> Real:
        """``-d log alpha^2 / dt = span cosh(z1/2) / (sinh(span (1 - t)) cosh(z/2))``."""
        xp, (z0, z1, span) = namespace(t), self._z
        return like(
            t, ratio(span * math.cosh(z1), xp.sinh(span * (1.0 - t)) * xp.cosh(z0 + span * t))
        )

    def t_of_minus_log(self, big_l: Real) -> Real:
        """From the nearer end: ``tanh(span t) = q cosh(z0/2) / (1 - q sinh(z0/2))`` and its mirror
        image for ``1 - t``."""
        xp, (z0, z1, span) = namespace(big_l), self._z
        q = -xp.expm1(-big_l) * (math.sinh(span) / math.cosh(z1))
        mirror = xp.exp(-big_l) * (math.sinh(span) / math.cosh(z0))
        near, far = (
            q * math.cosh(z0) / (1.0 - q * math.sinh(z0)),
            mirror * math.cosh(z1) / (1.0 + mirror * math.sinh(z1)),
        )
        t = pick(
            big_l < math.log(2.0),
            lambda: xp.arctanh(near) / span,
            lambda: 1.0 - xp.arctanh(far) / span,
        )
        return like(big_l, t)


def check_betas(low: float, high: float) -> None:
    """Raise ArgumentError for noise rates with which alpha does not decrease."""
    if not (0.0 <= low <= high and 0.0 < high < math.inf):
        raise ArgumentError(
            f"beta_min={low!r}, beta_max={high!r} must be 0 <= beta_min <= beta_max < inf, "
            "beta_max > 0"
        )

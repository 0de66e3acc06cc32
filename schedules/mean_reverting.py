"""Mean-reverting paths: data drift to a given mu while noise is added (IR-SDE, Luo et al. 2023,
arXiv 2301.11699, eqs. 3-6).

    dx = theta(t) (mu - x) dt + g(t) dW,    g^2 = 2 sigma_inf^2 theta
    x_t = mu + alpha (x0 - mu) + sigma eps
    alpha = e^{-int theta},    sigma = sigma_inf sqrt(1 - alpha^2)

(Li et al. 2025, arXiv 2502.07856, eq. 8). For ``xbar = x - mu`` it is an ordinary path, which
this schedule describes: a variance-preserving ``base`` (theta = beta / 2) whose noise is sigma_inf
times as large, lam lower by log sigma_inf. mu enters with the model, ``models.MeanReverted``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..checks import ArgumentError
from .base import Real, Schedule
from .discrete import DiscreteVP
from .registry import register
from .vp import VP, SubVP, VPLinear


@register
@dataclass(frozen=True)
class MeanReverting(Schedule):
    """``sigma_inf``: the stationary standard deviation; ``base``: VPLinear, VPCosine, VPSigmoid or
    DiscreteVP, which gives alpha and t. ``MeanReverting(1.0, base)`` is ``base``."""

    sigma_inf: float = 1.0
    base: Schedule = field(default_factory=VPLinear)

    def __post_init__(self) -> None:
        self.check_numbers()
        if not 0.0 < self.sigma_inf < math.inf:
            raise ArgumentError(f"sigma_inf={self.sigma_inf!r} must be 0 < sigma_inf < inf")
        if not isinstance(self.base, (VP, DiscreteVP)) or isinstance(self.base, SubVP):
            raise ArgumentError(
                f"base={self.base!r} must be one of the variance-preserving VPLinear, "
                "VPCosine, VPSigmoid and DiscreteVP"
            )

    @classmethod
    def examples(cls) -> tuple[Schedule, ...]:
        """The default, and a table with another stationary deviation."""
        return cls(), cls(0.3, DiscreteVP.examples()[0])

    @property
    def t_min(self) -> float:
        """That of the base."""
        return self.base.t_min

    @property
    def t_max(self) -> float:
        """That of the base."""
        return self.base.t_max

    @property
    def t_zero(self) -> float:
        """That of the base."""
        return self.base.t_zero

    @property
    def t_low(self) -> float:
        """That of the base."""
        return self.base.t_low

    @property
    def prior_scale(self) -> float:
        """sigma_inf: ``x_T = mu + sigma_inf z``."""
        return self.sigma_inf

    @property
    def _offset(self) -> float:
        """``log sigma_inf``."""
        return math.log(self.sigma_inf)

    @property
    def lam_start(self) -> float:
        """That of the base, less log sigma_inf."""
        return self.base.lam_start - self._offset

    @property
    def lam_end(self) -> float:
        """That of the base, less log sigma_inf."""
        return self.base.lam_end - self._offset

    def alpha(self, t: Real) -> Real:
        """``e^{-int theta}``."""
        return self.base.alpha(t)

    def sigma(self, t: Real) -> Real:
        """``sigma_inf sqrt(1 - alpha^2)``."""
        return self.sigma_inf * self.base.sigma(t)

    def dalpha(self, t: Real) -> Real:
        """``-theta alpha``."""
        return self.base.dalpha(t)

    def dsigma(self, t: Real) -> Real:
        """``sigma_inf dsigma`` of the base."""
        return self.sigma_inf * self.base.dsigma(t)

    def dlam(self, t: Real) -> Real:
        """That of the base."""
        return self.base.dlam(t)

    def f(self, t: Real) -> Real:
        """``-theta``."""
        return self.base.f(t)

    def g2(self, t: Real) -> Real:
        """``2 sigma_inf^2 theta``."""
        return self.sigma_inf**2 * self.base.g2(t)

    def t_of_lam(self, lam: Real) -> Real:
        """``t_of_lam(lam + log sigma_inf)`` of the base."""
        return self.base.t_of_lam(lam + self._offset)

"""``alpha(t)``, the probability that a token is still kept at time t: it falls from 1 at t = 0
(data) toward 0 at t = 1 (noise).

    Linear(eps)        1 - (1 - eps) t                    log-linear noise of MDLM and SEDD
    Cosine()           1 - cos(pi/2 (1 - t))              MaskGIT, MD4
    Polynomial(power)  1 - t^power                        MD4
    Geometric(a, b)    exp(-a^(1-t) b^t), 1 at t = 0      SEDD
    Given(f, df)       a function and its derivative

arXiv: MDLM 2406.07524, SEDD 2310.16834, MaskGIT 2202.04200, MD4 2406.04329.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ...checks import ArgumentError, ArgumentTypeError, between, number, shown, unknown


class Survival:
    """Base class: ``alpha(t)`` and its derivative ``dalpha(t)`` for t in [0, 1], float64 numbers of
    the host. ``alpha(0) = 1``, and alpha falls strictly."""

    def alpha(self, t: float) -> float:
        """Probability that a token is kept."""
        raise NotImplementedError

    def dalpha(self, t: float) -> float:
        """d alpha / dt, negative."""
        raise NotImplementedError


@dataclass(frozen=True)
class Linear(Survival):
    """``alpha = 1 - (1 - eps) t``. With eps = 0 no token is kept at t = 1; steps that need the
    concrete score or the rates of a uniform path take eps > 0, such as 1e-3."""

    eps: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= number("eps", self.eps) < 1.0:
            raise ArgumentError(f"eps={self.eps!r}: must be 0 <= eps < 1")

    def alpha(self, t: float) -> float:
        """``1 - (1 - eps) t``."""
        return 1.0 - (1.0 - self.eps) * t

    def dalpha(self, t: float) -> float:
        """``-(1 - eps)``."""
        return self.eps - 1.0


@dataclass(frozen=True)
class Cosine(Survival):
    """``alpha = 1 - cos(pi/2 (1 - t))``: few tokens are revealed at first, many at the end."""

    def alpha(self, t: float) -> float:
        """``1 - cos(pi/2 (1 - t)) = 2 sin^2(pi/4 (1 - t))``."""
        return 2.0 * math.sin(0.25 * math.pi * (1.0 - t)) ** 2

    def dalpha(self, t: float) -> float:
        """``-pi/2 sin(pi/2 (1 - t))``."""
        return -0.5 * math.pi * math.sin(0.5 * math.pi * (1.0 - t))


@dataclass(frozen=True)
class Polynomial(Survival):
    """``alpha = 1 - t^power``, power > 0."""

    power: float = 2.0

    def __post_init__(self) -> None:
        between("power", self.power, 0.0)

    def alpha(self, t: float) -> float:
        """``1 - t^power``."""
        return 1.0 - float(t**self.power)

    def dalpha(self, t: float) -> float:
        """``-power t^(power - 1)``; -inf at t = 0 where power < 1."""
        if t == 0.0 and self.power < 1.0:
            return -math.inf
        return -self.power * float(t ** (self.power - 1.0))


@dataclass(frozen=True)
class Geometric(Survival):
    """``alpha = exp(-low^(1-t) high^t)`` for t > 0, and 1 at t = 0: the data are reached by a last
    jump from ``exp(-low)``."""

    low: float = 1e-4
    high: float = 20.0

    def __post_init__(self) -> None:
        between("low", self.low, 0.0)
        between("high", self.high, self.low)

    def _total(self, t: float) -> float:
        return float(self.low ** (1.0 - t) * self.high**t)

    def alpha(self, t: float) -> float:
        """``exp(-low^(1-t) high^t)``; 1 at t = 0."""
        return math.exp(-self._total(t)) if t > 0.0 else 1.0

    def dalpha(self, t: float) -> float:
        """``-log(high/low) low^(1-t) high^t alpha``."""
        total = self._total(t)
        return -math.log(self.high / self.low) * total * math.exp(-total)


@dataclass(frozen=True)
class Given(Survival):
    """``alpha`` and ``dalpha`` are functions of a number t in [0, 1]. Steps that use rates need
    ``derivative``."""

    function: Callable[[float], float]
    derivative: Callable[[float], float] | None = None

    def alpha(self, t: float) -> float:
        """``function(t)``. Raises ArgumentError unless it is in [0, 1], and 1 at t = 0."""
        found = number(f"alpha({t})", self.function(t), 0.0, 1.0)
        if t == 0.0 and abs(found - 1.0) > 1e-6:
            raise ArgumentError(f"alpha(0)={found!r}: must be 1, because t = 0 is the data")
        return float(found)

    def dalpha(self, t: float) -> float:
        """``derivative(t)``."""
        if self.derivative is None:
            raise ArgumentError(
                "this step needs d alpha/dt: give it, Given(alpha, dalpha), or take a named alpha"
            )
        return float(number(f"dalpha({t})", self.derivative(t)))


#: name -> alpha with default parameters
NAMED: dict[str, Survival] = {
    "linear": Linear(),
    "loglinear": Linear(),
    "cosine": Cosine(),
    "polynomial": Polynomial(),
    "geometric": Geometric(),
}


def survival(alpha: str | Survival | Callable[[float], float]) -> Survival:
    """Return ``alpha`` as a Survival: a name of NAMED, a function of t, or a Survival itself.
    Raises ArgumentError for an unknown name, with the nearest match, ArgumentTypeError otherwise.
    """
    if isinstance(alpha, Survival):
        return alpha
    if isinstance(alpha, str):
        if alpha not in NAMED:
            raise ArgumentError(unknown("alpha", alpha, NAMED))
        return NAMED[alpha]
    if not callable(alpha):
        raise ArgumentTypeError(
            f"alpha={shown(alpha)}: must be a name ({', '.join(sorted(NAMED))}), a Survival such "
            "as Linear(1e-3), or a function of t"
        )
    return Given(alpha)


def check_time(t: float, name: str = "t") -> float:
    """Return ``t`` as a float. Raises ArgumentError unless it is a number in [0, 1]."""
    return float(number(name, t, 0.0, 1.0))

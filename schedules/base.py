"""The schedule: ``x_t = alpha(t) x0 + sigma(t) eps`` with t growing toward noise.

A concrete schedule is a frozen dataclass that gives ``alpha``, ``sigma``, their derivatives and the
inverse ``t_of_lam``. All functions take a float, a numpy array or a torch tensor and answer in
kind, in float64 for the first two. The forward SDE is ``dx = f(t) x dt + sqrt(g2(t)) dW`` (Song et
al. 2021, arXiv 2011.13456, eq. 5) with ``f = d log alpha / dt`` and
``g2 = d sigma^2/dt - 2 f sigma^2``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any

import numpy as np
import torch

from ..checks import (
    ArgumentError,
    ArgumentTypeError,
    FewstepError,
    is_finite,
    number,
    plain,
)
from .node import Node

#: half log-SNR used for the infinite ends of a path in grids spaced in lam or rho: the cut
#: of arXiv 2206.00927, appendix D, taken at both ends. The first step then covers lam = -inf to the
#: second node, the last one sigma/alpha = 0.006 to 0, each with one evaluation: their errors of
#: about e^{-2 LAM_EDGE} = 4e-5 do not fall with more steps. Grids in t have no such floor.
LAM_EDGE = 5.1

#: float in, float out; numpy array in, numpy array out; torch tensor in, torch tensor out
Real = Any


class Host:
    """Math functions of Python floats with numpy's values at the edges (infinities), several times
    faster than numpy."""

    sqrt, sin, cos, tan = math.sqrt, math.sin, math.cos, math.tan
    sinh, cosh, log1p, expm1 = math.sinh, math.cosh, math.log1p, math.expm1
    arctan, arctanh, arcsinh = math.atan, math.atanh, math.asinh
    floor = math.floor

    @staticmethod
    def exp(x: float) -> float:
        """``e^x``, inf where it overflows."""
        return math.exp(x) if x < 709.0 else math.inf

    @staticmethod
    def log(x: float) -> float:
        """``log x``, -inf at 0."""
        return math.log(x) if x != 0.0 else -math.inf

    @staticmethod
    def clip(x: float, low: float | None, high: float | None) -> float:
        """``x`` between the ends."""
        x = x if low is None or x > low else low
        return x if high is None or x < high else high

    @staticmethod
    def where(condition: bool, yes: Real, no: Real) -> Real:
        """``yes`` where the condition holds, else ``no``."""
        return yes if condition else no


def namespace(t: Real) -> Any:
    """The module of functions for ``t``: torch for tensors, ``Host`` for Python numbers, numpy for
    everything else."""
    return Host if isinstance(t, (float, int)) else torch if isinstance(t, torch.Tensor) else np


def like(t: Real, value: Real) -> Real:
    """``value`` as the type of ``t``: a Python float stays one."""
    return float(value) if isinstance(t, (float, int)) else value


def ratio(a: Real, b: Real) -> Real:
    """``a / b`` with IEEE infinities and NaN at b = 0, and no warning, for floats as well."""
    if isinstance(a, (float, int)) and isinstance(b, (float, int)):
        if b == 0.0:
            return math.nan if a == 0.0 or math.isnan(a) else math.copysign(math.inf, a)
        return float(a) / float(b)
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return a / b
    with np.errstate(divide="ignore", invalid="ignore"):
        return a / b


def pick(where: Real, yes: Callable[[], Real], no: Callable[[], Real]) -> Real:
    """``yes()`` where true, ``no()`` elsewhere: one of them for a float, both (without warnings)
    for an array."""
    if isinstance(where, (bool, np.bool_)):
        return yes() if where else no()
    if isinstance(where, torch.Tensor):  # torch.compile knows no np.errstate
        return torch.where(where, yes(), no())
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return namespace(where).where(where, yes(), no())


def softplus(x: Real) -> Real:
    """``log(1 + e^x)`` without overflow, to full relative precision."""
    xp = namespace(x)
    return like(x, xp.clip(x, 0.0, None) + xp.log1p(xp.exp(-abs(x))))


def finite_or_none(value: float) -> float | None:
    """``value``, or None where a derivative is infinite or undefined."""
    return value if math.isfinite(value) else None


#: functions of a time, of lam or of rho, whose argument is checked first
_FUNCTIONS = (
    "alpha",
    "sigma",
    "dalpha",
    "dsigma",
    "lam",
    "rho",
    "dlam",
    "f",
    "g2",
    "t_of_lam",
    "t_of_rho",
)


def host_number(value: Any) -> float:
    """``value`` as a float. Raises ArgumentTypeError where it is not a number."""
    try:
        if isinstance(value, str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ArgumentTypeError(f"{value!r} must be a number") from None


def _of_a_number(function: Callable[[Any, Real], Real]) -> Callable[[Any, Real], Real]:
    """Wrap ``function(schedule, t)``: raise ArgumentError for NaN and for a number at which the
    formula has no value, ArgumentTypeError for anything but numbers, arrays and tensors."""

    @wraps(function)
    def checked(self: Any, t: Real) -> Real:
        if not isinstance(t, (float, int)):
            if not _real_array(t):
                raise ArgumentTypeError(
                    f"{type(self).__name__}.{function.__name__}({t!r}): the argument must be "
                    "a number, or an array or tensor of real numbers"
                )
            return function(self, t)
        if t != t:
            raise ArgumentError(
                f"{type(self).__name__}.{function.__name__}({t!r}): the argument must be a number"
            )
        try:
            return function(self, t)
        except (ValueError, OverflowError) as error:
            if isinstance(error, FewstepError):
                raise
            what = f"{type(self).__name__}.{function.__name__}({str(t)[:40]}) has no value"
            raise ArgumentError(
                f"{what}; times of {self!r} go from {self.t_low} to {self.t_max}"
            ) from None

    return checked


def _real_array(value: Any) -> bool:
    """Whether ``value`` is a dense tensor or a numpy array (or number) of real numbers."""
    if isinstance(value, torch.Tensor):
        return (
            not (value.dtype == torch.bool or value.is_complex()) and value.layout is torch.strided
        )
    return hasattr(value, "dtype") and getattr(value.dtype, "kind", "") in ("f", "i", "u")


class Schedule:
    """Base of all schedules. Subclasses are frozen dataclasses; they are compared, hashed and
    printed by their parameters.

    The functions of a time (and ``t_of_lam``) raise ArgumentError for a number that is NaN, and for
    what is neither a number, an array nor a tensor.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in _FUNCTIONS:
            if name in cls.__dict__:
                setattr(cls, name, _of_a_number(cls.__dict__[name]))

    def check_numbers(self) -> None:
        """Convert the numeric fields, numpy's numbers too, to Python numbers. Raises ArgumentError
        where one is not a number; the class checks the ranges."""
        for field in fields(self):  # type: ignore[arg-type]
            value = plain(getattr(self, field.name))
            if field.type in ("float", "int"):
                if (
                    isinstance(value, bool)
                    or not isinstance(value, (int, float))
                    or (isinstance(value, int) and not is_finite(value))
                ):
                    raise ArgumentError(f"{field.name}={value!r} must be a number")
                object.__setattr__(self, field.name, value)

    @classmethod
    def examples(cls) -> tuple[Schedule, ...]:
        """Instances on which a registered schedule is tested; the first one stands for the class on
        the command line. Default: the one without arguments."""
        return (cls(),)

    @property
    def t_min(self) -> float:
        """Last time of grids with ``final="sigma_min"``; with ``final="zero"`` the last before the
        step to sigma = 0."""
        raise NotImplementedError

    @property
    def t_max(self) -> float:
        """The noisiest time."""
        raise NotImplementedError

    @property
    def t_zero(self) -> float:
        """The time at which sigma = 0 (-inf for VE, -1 for discrete tables)."""
        return 0.0

    @property
    def t_low(self) -> float:
        """The smallest time at which the path is defined: t_zero, except on discrete tables, where
        sigma = 0 is an isolated point."""
        return self.t_zero

    @property
    def prior_scale(self) -> float:
        """The start state without ``x=`` is ``prior_scale * z``."""
        return 1.0

    @property
    def lam_start(self) -> float:
        """The half log-SNR used for t_max in grids spaced in lam or rho where alpha(t_max) = 0."""
        return -math.inf

    @property
    def lam_end(self) -> float:
        """The half log-SNR used for t_min in grids spaced in lam or rho where sigma(t_min) = 0."""
        return math.inf

    def alpha(self, t: Real) -> Real:
        """Signal scale at time ``t``."""
        raise NotImplementedError

    def sigma(self, t: Real) -> Real:
        """Noise scale at time ``t``."""
        raise NotImplementedError

    def dalpha(self, t: Real) -> Real:
        """d alpha / dt (infinite where the path has a vertical tangent)."""
        raise NotImplementedError

    def dsigma(self, t: Real) -> Real:
        """d sigma / dt (infinite where the path has a vertical tangent)."""
        raise NotImplementedError

    def t_of_lam(self, lam: Real) -> Real:
        """Inverse of ``lam(t)``."""
        raise NotImplementedError

    def lam(self, t: Real) -> Real:
        """Half log-SNR ``log(alpha / sigma)``; -inf at alpha = 0, +inf at sigma = 0."""
        if isinstance(t, (float, int)):
            return Node(self.alpha(float(t)), self.sigma(float(t))).lam
        xp = namespace(t)
        with np.errstate(divide="ignore"):
            return xp.log(self.alpha(t)) - xp.log(self.sigma(t))

    def rho(self, t: Real) -> Real:
        """Noise-to-signal ratio ``sigma / alpha``; inf at alpha = 0."""
        return ratio(self.sigma(t), self.alpha(t))

    def dlam(self, t: Real) -> Real:
        """d lam / dt (negative)."""
        return ratio(self.dalpha(t), self.alpha(t)) - ratio(self.dsigma(t), self.sigma(t))

    def t_of_rho(self, rho: Real) -> Real:
        """Inverse of ``rho(t)``."""
        with np.errstate(divide="ignore"):
            return self.t_of_lam(like(rho, -namespace(rho).log(rho)))

    def f(self, t: Real) -> Real:
        """Drift of the forward SDE, ``d log alpha / dt``."""
        return ratio(self.dalpha(t), self.alpha(t))

    def g2(self, t: Real) -> Real:
        """Squared diffusion of the forward SDE, ``d sigma^2/dt - 2 f sigma^2``."""
        sigma = self.sigma(t)
        return 2.0 * sigma * self.dsigma(t) - 2.0 * self.f(t) * sigma * sigma

    def node(self, t: float) -> Node:
        """The path at time ``t`` as host numbers. ``t_zero`` (-inf for VE) is sigma = 0; infinite
        derivatives become None."""
        return self._node(self.clamp(host_number(t)))

    def _node(self, t: float) -> Node:
        """``node`` of a time that is already clamped."""
        return Node(
            self.alpha(t),
            self.sigma(t),
            t,
            finite_or_none(self.dalpha(t)),
            finite_or_none(self.dsigma(t)),
        )

    def node_at_lam(self, lam: float) -> Node:
        """The path at half log-SNR ``lam``. ValueError outside the schedule's range."""
        return self._node(self.time_at_lam(host_number(lam)))

    def node_at_rho(self, rho: float) -> Node:
        """The path at noise-to-signal ratio ``rho``. ValueError outside the schedule's range."""
        return self._node(self.time_at_rho(host_number(rho)))

    def time_at_rho(self, rho: float) -> float:
        """``t_of_rho`` for one host number, with the infinite ends and a check of the range."""
        rho = rho if type(rho) is float else host_number(rho)
        if not rho >= 0.0:
            raise ArgumentError(f"sigma/alpha is {rho!r}; it must be >= 0")
        return self.time_at_lam(-Host.log(rho))

    def time_at_lam(self, lam: float) -> float:
        """``t_of_lam`` for one host number, with the infinite ends and a check of the range."""
        lam = lam if type(lam) is float else host_number(lam)
        if lam == math.inf:
            return self.t_zero
        if lam == -math.inf and self.lam(self.t_max) == -math.inf:
            return self.t_max
        t = self.t_of_lam(lam) if lam > -math.inf else math.nan
        try:
            return self.clamp(t)
        except ValueError:
            top, low = self.lam(self.t_max), self.lam(self.t_low)
            raise ArgumentError(
                f"half log-SNR {lam!r} (sigma/alpha = {math.exp(min(-lam, 700.0)):.6g}) is "
                f"outside {self!r}: "
                f"lam must be {top:.6g} <= lam <= {low:.6g}, or lam = inf for sigma = 0"
            ) from None

    def shifted(self, t: float, shift: float) -> float:
        """The time at ``lam(t) - log(shift)``: more noise for shift > 1."""
        if not number("shift", shift) > 0.0:
            raise ArgumentError(f"shift={shift!r} must be > 0")
        return self.time_at_lam(self.lam(host_number(t)) - math.log(shift))

    def clamp(self, t: float) -> float:
        """``t`` checked by ``check_time``, with rounding errors beyond the ends removed."""
        t = t if type(t) is float else host_number(t)
        self.check_time(t)
        return t if t == self.t_zero else min(max(t, self.t_low), self.t_max)

    def check_time(self, t: float) -> None:
        """Raise ValueError when ``t`` is not a time of this schedule."""
        t = t if type(t) is float else host_number(t)
        if t == self.t_zero:
            return
        low = self.t_low
        slack = 1e-9 * max(1.0, abs(self.t_max))
        if not (low - slack <= t <= self.t_max + slack):
            raise ArgumentError(
                f"time {t} is outside {self!r}: it must be {low} <= t <= {self.t_max}, or t = "
                f"{self.t_zero} for sigma = 0"
            )


for _name in (name for name in _FUNCTIONS if name in Schedule.__dict__):
    setattr(Schedule, _name, _of_a_number(Schedule.__dict__[_name]))

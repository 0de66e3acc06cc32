"""Validation of a schedule: its functions against each other, at times between its ends.

Checked at float64, between t_min and t_max:

    range        t_low <= t_min < t_max, t_zero <= t_min, prior_scale > 0
    values       alpha > 0, sigma > 0, finite; arrays and tensors give the same as floats
    monotone     lam = log(alpha / sigma) falls strictly with t
    inverse      lam(t_of_lam(lam)) = lam
    derivatives  dalpha, dsigma, dlam against finite differences
    SDE          f = dalpha / alpha,  g2 = 2 sigma dsigma - 2 f sigma^2
    ends         sigma(t_zero) = 0; lam_start is finite where alpha(t_max) = 0, lam_end where
                 sigma(t_min) = 0

Every registered schedule is checked by the tests; a class of a user's own is checked once for each
value of its parameters, where it is first used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ..checks import ScheduleError, instance
from .base import Schedule

#: interior times, as fractions of t_max - t_min; the golden ratio keeps them off the entries of
#: tables
FRACTIONS = tuple((k * 0.6180339887498949 + 0.011) % 0.98 + 0.01 for k in range(24))
#: points at which lam must fall
POINTS = 129
#: relative errors that pass: of the inverse, of a derivative, of two closed forms
INVERSE, SLOPE, FORM = 1e-7, 1e-4, 1e-7
#: step of a finite difference, in units of the distance to the nearer end
STEP = 1e-5


def check(schedule: Schedule) -> None:
    """Check that the functions of ``schedule`` fit each other (module docstring).

    Raises ScheduleError that names the function, its value, the expected value and the time.
    """
    instance("schedule", schedule, Schedule, "a schedule such as fewstep.schedules.VPLinear()")
    try:
        problems = list(_problems(schedule))
    except NotImplementedError:
        raise ScheduleError(f"{schedule!r} leaves out {_missing(schedule)}") from None
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ScheduleError(f"{schedule!r} is no consistent schedule: {problems[0]}{more}")


def check_schedule(schedule: Any) -> None:
    """Raise ArgumentTypeError unless ``schedule`` is a schedule, and ScheduleError where a class of
    another package fails ``check``, which runs once for each schedule."""
    instance("schedule", schedule, Schedule, "a schedule such as fewstep.schedules.VPLinear()")
    if type(schedule).__module__.partition(".")[0] != __name__.partition(".")[0]:
        try:
            _checked(schedule)
        except TypeError as error:
            if "unhashable" not in str(error):
                raise
            raise ScheduleError(
                f"{schedule!r} cannot be hashed: its class must be a frozen dataclass"
            ) from None


@lru_cache(maxsize=256)
def _checked(schedule: Schedule) -> None:
    check(schedule)


def _missing(schedule: Schedule) -> str:
    """The functions and properties that ``schedule`` does not implement."""
    absent = []
    for name in ("t_min", "t_max"):
        try:
            getattr(schedule, name)
        except NotImplementedError:
            absent.append(name)
    for name in ("alpha", "sigma", "dalpha", "dsigma", "t_of_lam"):
        try:
            getattr(schedule, name)(0.5)
        except NotImplementedError:
            absent.append(name)
        except (ValueError, ArithmeticError):
            continue
    return ", ".join(absent) or "a function of its own"


def _problems(schedule: Schedule) -> Iterator[str]:
    """One sentence for each failed check, in the order of the module docstring; the later checks
    need the range."""
    found = list(_range(schedule))
    yield from found
    if found:
        return
    low, span = schedule.t_min, schedule.t_max - schedule.t_min
    times = [low + span * u for u in FRACTIONS]
    found = [said for t in times for said in _values(schedule, t)]
    yield from found
    if found:
        return
    yield from _arrays(schedule, times)
    yield from _falls(schedule)
    for t in times:
        yield from _inverse(schedule, t)
        yield from _derivatives(schedule, t)
        yield from _sde(schedule, t)
    yield from _ends(schedule)


def _range(schedule: Schedule) -> Iterator[str]:
    """The numbers that bound the times."""
    for name in ("t_min", "t_max", "t_zero", "t_low", "prior_scale", "lam_start", "lam_end"):
        value = getattr(schedule, name)
        if not isinstance(value, (float, int)) or value != value:
            yield f"{name} is {value!r}; it must be a number"
            return
    low, high = schedule.t_min, schedule.t_max
    if not -math.inf < low < high < math.inf:
        yield f"t_min={low}, t_max={high}; they must be finite with t_min < t_max"
    if not (schedule.t_zero <= low and schedule.t_low <= low):
        yield f"t_zero={schedule.t_zero}, t_low={schedule.t_low}; both must be <= t_min={low}"
    if not 0.0 < schedule.prior_scale < math.inf:
        yield f"prior_scale is {schedule.prior_scale}; it must be a finite number > 0"


def _values(schedule: Schedule, t: float) -> Iterator[str]:
    """alpha and sigma inside, where both must be positive."""
    for name in ("alpha", "sigma"):
        value = getattr(schedule, name)(t)
        if not isinstance(value, (float, int)) or not 0.0 < value < math.inf:
            yield f"{name}({t:.6g}) is {value!r}; between t_min and t_max it must be > 0 and finite"


def _arrays(schedule: Schedule, times: list[float]) -> Iterator[str]:
    """Arrays and tensors must give the values of floats, in their own type."""
    lams = [schedule.lam(t) for t in times]
    for name, points in (("alpha", times), ("sigma", times), ("t_of_lam", lams)):
        function = getattr(schedule, name)
        wanted = np.asarray([function(v) for v in points])
        for kind, given in (
            ("array", np.asarray(points)),
            ("tensor", torch.tensor(points, dtype=torch.float64)),
        ):
            try:
                found = np.asarray(function(given))
            except Exception as error:
                yield f"{name} of a float64 {kind} raises {type(error).__name__}: {error}"
                continue
            if found.shape != wanted.shape:
                yield f"{name} of a float64 {kind} of shape {wanted.shape} has shape {found.shape}"
            elif not np.allclose(found, wanted, rtol=1e-9, atol=1e-12):
                at = int(np.argmax(np.abs(found - wanted)))
                yield (
                    f"{name}({points[at]:.6g}) is {wanted[at]:.9g} for a float and "
                    f"{found[at]:.9g} for a float64 {kind}"
                )


def _falls(schedule: Schedule) -> Iterator[str]:
    """lam must fall strictly from t_min to t_max."""
    times = np.linspace(schedule.t_min, schedule.t_max, POINTS).tolist()
    lams = [schedule.lam(t) for t in times]
    for s, t, first, second in zip(times, times[1:], lams, lams[1:], strict=False):
        if not first > second:
            yield (
                f"lam is {first:.9g} at t={s:.6g} and {second:.9g} at t={t:.6g}; it must fall "
                "strictly as t grows"
            )
            return


def _inverse(schedule: Schedule, t: float) -> Iterator[str]:
    """The round trip through ``t_of_lam``."""
    lam = schedule.lam(t)
    wanted = math.log(schedule.alpha(t)) - math.log(schedule.sigma(t))
    if abs(lam - wanted) > FORM * max(1.0, abs(wanted)):
        yield f"lam({t:.6g}) is {lam:.9g}; log(alpha / sigma) is {wanted:.9g}"
    rho = schedule.rho(t)
    if abs(rho * math.exp(wanted) - 1.0) > FORM:
        yield f"rho({t:.6g}) is {rho:.9g}; sigma / alpha is {math.exp(-wanted):.9g}"
    back = schedule.t_of_lam(lam)
    found = schedule.lam(back) if schedule.t_low <= back <= 2.0 * schedule.t_max - t else math.nan
    if not abs(found - lam) <= INVERSE * max(1.0, abs(lam)):
        yield f"t_of_lam(lam({t:.6g})) is {back:.9g}; it must be {t:.9g}"


def _derivatives(schedule: Schedule, t: float) -> Iterator[str]:
    """dalpha, dsigma and dlam against differences; at the kinks of a table one side's will do."""
    h = STEP * min(t - schedule.t_min, schedule.t_max - t)
    span = schedule.t_max - schedule.t_min
    functions: tuple[tuple[str, Callable[[float], float]], ...] = (
        ("alpha", schedule.alpha),
        ("sigma", schedule.sigma),
        ("lam", schedule.lam),
    )
    for name, function in functions:
        found = getattr(schedule, f"d{name}")(t)
        before, here, after = function(t - h), function(t), function(t + h)
        slopes = ((after - before) / (2.0 * h), (after - here) / h, (here - before) / h)
        least = 1e-13 * max(1.0, abs(here)) / h + 1e-9 * abs(here) / span
        if not any(abs(found - s) <= SLOPE * max(abs(found), abs(s)) + least for s in slopes):
            yield (
                f"d{name}({t:.6g}) is {found:.9g}; the finite difference of {name} is "
                f"{slopes[0]:.9g}"
            )


def _sde(schedule: Schedule, t: float) -> Iterator[str]:
    """f and g2 against the derivatives."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    f, dsigma = schedule.dalpha(t) / alpha, schedule.dsigma(t)
    terms = (2.0 * sigma * dsigma, -2.0 * f * sigma * sigma)
    for name, wanted, size in (
        ("f", f, abs(f)),
        ("g2", sum(terms), abs(terms[0]) + abs(terms[1])),
    ):
        found = getattr(schedule, name)(t)
        if not abs(found - wanted) <= FORM * size:
            formula = "dalpha / alpha" if name == "f" else "2 sigma dsigma - 2 f sigma^2"
            yield f"{name}({t:.6g}) is {found:.9g}; {formula} is {wanted:.9g}"
    if not terms[0] + terms[1] > 0.0:
        yield f"g2({t:.6g}) is {terms[0] + terms[1]:.9g}; sigma / alpha must grow with t"


def _ends(schedule: Schedule) -> Iterator[str]:
    """The clean end, and what stands for an infinite lam in grids spaced in lam."""
    clean = schedule.node(schedule.t_zero)
    if clean.sigma != 0.0 or not clean.alpha > 0.0:
        yield (
            f"at t_zero={schedule.t_zero} alpha is {clean.alpha!r} and sigma {clean.sigma!r}; "
            "sigma must be exactly 0 there, and alpha > 0"
        )
    first, last = schedule.node(schedule.t_max), schedule.node(schedule.t_min)
    if first.alpha == 0.0 and not math.isfinite(schedule.lam_start):
        yield (
            f"alpha is 0 at t_max={schedule.t_max}, so lam_start must be finite; it is "
            f"{schedule.lam_start}"
        )
    if last.sigma == 0.0 and not math.isfinite(schedule.lam_end):
        yield (
            f"sigma is 0 at t_min={schedule.t_min}, so lam_end must be finite; it is "
            f"{schedule.lam_end}"
        )

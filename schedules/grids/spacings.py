"""How named grids place their times. Each spacing gets a ``Frame`` and answers all ``steps + 1``
times, first to last.

Two shapes. *Closed*: the points run from the first time to t_min, and t = t_zero follows where
``final="zero"`` and sigma(t_min) > 0 (``steps`` points), else t_min is the last (``steps + 1``
points). *Open*: ``steps`` points that stop short of t_min, then t_zero or t_min.

With ``start`` every spacing is laid out anew from ``start`` instead of t_max, with the same number
of steps. Published lists (ays, oss) keep their curve and are resampled on its part after ``start``.

Spacings in lam or rho use ``schedule.lam_start`` for the place of t_max where alpha(t_max) = 0, and
``schedule.lam_end`` for that of t_min where sigma(t_min) = 0; the first node is t_max nevertheless,
and a last step to t_min follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...checks import GridError, unknown
from ..base import Schedule
from ..discrete import DiscreteVP
from .published import AYS, OSS

#: numbers of an option; each spacing reads its own
Options = dict[str, Any]


@dataclass(frozen=True)
class Frame:
    """What a spacing is laid out on: a schedule, the number of steps, the first time, the kind of
    end, the shift of times."""

    schedule: Schedule
    steps: int
    top: float
    final: str
    shift: float = 1.0

    @property
    def bottom(self) -> float:
        """t_min."""
        return self.schedule.t_min

    @property
    def end(self) -> float:
        """The last time of an open spacing."""
        return self.schedule.t_zero if self.final == "zero" else self.bottom

    @cached_property
    def reaches_zero(self) -> bool:
        """Whether sigma(t_min) = 0."""
        return bool(self.schedule.sigma(self.bottom) == 0.0)

    @property
    def train_steps(self) -> float:
        """T of the integer spacings: the length of the table up to the first time."""
        return self.top + 1.0

    @cached_property
    def lam_range(self) -> tuple[float, float]:
        """lam of the first time and of t_min, with lam_start and lam_end for the infinite ones."""
        first, last = self.schedule.lam(self.top), self.schedule.lam(self.bottom)
        return (self.schedule.lam_start if first == -math.inf else first), (
            self.schedule.lam_end if last == math.inf else last
        )

    def closed_count(self, infinite_end: bool) -> int:
        """Points of a closed spacing; ``infinite_end`` where t_min itself cannot be a point of
        it."""
        return (
            self.steps
            if infinite_end or (self.final == "zero" and not self.reaches_zero)
            else self.steps + 1
        )

    def closed(self, times: list[float]) -> list[float]:
        """``times`` with the exact ends, and t_zero behind where it is due."""
        times[0] = self.top
        if len(times) > self.steps:
            return [*times[:-1], self.bottom]
        if len(times) > 1 and not self.reaches_zero:
            times[-1] = self.bottom
        return [*times, self.end]

    def open(self, times: list[float]) -> list[float]:
        """``times`` and the end."""
        return [*times, self.end]

    def warp(self, times: Any) -> list[float]:
        """Times of the shifted schedule: lam -> lam - log(shift)."""
        values = [float(t) for t in times]
        if self.shift == 1.0:
            return values
        return [self.schedule.shifted(t, self.shift) for t in values]

    @property
    def base_top(self) -> float:
        """The time that ``warp`` takes to the first time."""
        return self.top if self.shift == 1.0 else self.schedule.shifted(self.top, 1.0 / self.shift)

    def closed_in_lam(self, lams: Any) -> list[float]:
        """A closed spacing of half log-SNRs."""
        return self.closed([float(t) for t in self.schedule.t_of_lam(np.asarray(lams))])

    def count_in_lam(self) -> int:
        """Points of a closed spacing in lam or rho."""
        return self.closed_count(self.reaches_zero)


def ramp(n: int) -> Any:
    """``n`` numbers from 1 to 0 inclusive; [1] for n = 1."""
    return np.linspace(1.0, 0.0, n)


def power(frame: Frame, options: Options) -> list[float]:
    """Linear in ``t^(1/power)``; power 1 is uniform, 2 quadratic. ``drop_last``: one point more,
    without the last."""
    q = options["power"]
    if frame.bottom < 0.0:
        raise GridError(f"a power of t needs t >= 0; {frame.schedule!r} ends at t = {frame.bottom}")
    n = frame.steps + 1 if options.get("drop_last") else frame.closed_count(False)
    first, last = frame.base_top ** (1.0 / q), frame.bottom ** (1.0 / q)
    values = np.linspace(first, last, n) ** q
    if options.get("drop_last"):
        return frame.open([frame.top, *frame.warp(values[1:-1])])
    return frame.closed(frame.warp(np.clip(values, frame.bottom, frame.base_top)))


def quadratic(frame: Frame, options: Options) -> list[float]:
    """Linear in ``sqrt t`` (arXiv 2010.02502, appendix D.2)."""
    return power(frame, {"power": 2.0})


def uniform(frame: Frame, options: Options) -> list[float]:
    """Uniform in t."""
    return power(frame, {**options, "power": 1.0})


def linspace(frame: Frame, options: Options) -> list[float]:
    """On tables ``round(linspace(0, T - 1, n))`` from the top (diffusers), elsewhere uniform in
    t."""
    if not isinstance(frame.schedule, DiscreteVP):
        return uniform(frame, options)
    n = frame.steps + 1 if options["drop_last"] else frame.closed_count(False)
    values = (
        [float(v) for v in np.round(np.linspace(0.0, frame.top, n))[::-1]] if n > 1 else [frame.top]
    )
    values[0] = frame.top
    return frame.open(values[:-1]) if options["drop_last"] else frame.closed(values)


def leading(frame: Frame, options: Options) -> list[float]:
    """Multiples of the stride from the bottom, i = n - 1 .. 0: ``i floor(T / n) + offset`` on
    tables (diffusers; one step starts at ``offset``), ``t_min + i (t_max - t_min) / n`` elsewhere
    (one step starts at t_max). Starts a stride below t_max."""
    n = frame.steps + 1 if options["drop_last"] else frame.closed_count(False)
    if isinstance(frame.schedule, DiscreteVP):
        stride = math.floor(frame.train_steps / n)
        values = [float(i * stride + options["offset"]) for i in range(n - 1, -1, -1)]
    else:
        values = (
            frame.warp(
                frame.bottom + (frame.base_top - frame.bottom) * np.arange(n - 1, -1, -1) / n
            )
            if n > 1
            else [frame.top]
        )
    if options["drop_last"]:
        return frame.open(values[:-1])
    return [*values[:-1], frame.bottom] if n > frame.steps else frame.open(values)


def trailing(frame: Frame, options: Options) -> list[float]:
    """From the top in strides: ``round(T - i T / N) - 1`` on tables (diffusers),
    ``t_max - i (t_max - t_min) / N`` elsewhere."""
    i = np.arange(frame.steps)
    if isinstance(frame.schedule, DiscreteVP):
        big_t = frame.train_steps
        rest = [float(v) for v in np.round(big_t - i[1:] * (big_t / frame.steps)) - 1.0]
    else:
        rest = frame.warp(frame.base_top - (frame.base_top - frame.bottom) * i[1:] / frame.steps)
    return frame.open([frame.top, *rest])


def simple(frame: Frame, options: Options) -> list[float]:
    """``T - 1 - floor(i T / N)`` on tables (ComfyUI), as trailing elsewhere."""
    if not isinstance(frame.schedule, DiscreteVP):
        return trailing(frame, options)
    return frame.open(
        [frame.top - math.floor(i * frame.train_steps / frame.steps) for i in range(frame.steps)]
    )


def sgm_uniform(frame: Frame, options: Options) -> list[float]:
    """``N + 1`` uniform times without the last (Stability's generative-models)."""
    return uniform(frame, {"drop_last": True})


def ddim_uniform(frame: Frame, options: Options) -> list[float]:
    """Indices ``1 + i floor(T / N)`` on tables (ComfyUI, its first N), as leading elsewhere."""
    if isinstance(frame.schedule, DiscreteVP):
        stride = math.floor(frame.train_steps / frame.steps)
        return frame.open([float(1 + i * stride) for i in range(frame.steps - 1, -1, -1)])
    return leading(frame, {"drop_last": False})


def lam(frame: Frame, options: Options) -> list[float]:
    """Uniform in lam (arXiv 2206.00927, section 3.4); the same as log-uniform rho. ``drop_last``:
    one point more, without the last."""
    return polyexponential(frame, {**options, "power": 1.0})


def polyexponential(frame: Frame, options: Options) -> list[float]:
    """``log rho`` along ``ramp^power`` (k-diffusion). ``drop_last`` as for lam."""
    first, last = frame.lam_range
    return in_lam(frame, options, lambda u: last + (first - last) * u ** options["power"])


def karras(frame: Frame, options: Options) -> list[float]:
    """``rho_i^(1/r)`` linear, r = 7 (arXiv 2206.00364, eq. 5). ``drop_last`` as for lam."""
    r = options["rho"]
    first, last = frame.lam_range
    high, low = math.exp(-first / r), math.exp(-last / r)
    return in_lam(frame, options, lambda u: -r * np.log(low + u * (high - low)))


def in_lam(frame: Frame, options: Options, law: Callable[[Any], Any]) -> list[float]:
    """The half log-SNRs ``law(u)``, u from 1 to 0; with ``drop_last`` one point more, without the
    last, which makes it open."""
    if not options["drop_last"]:
        return frame.closed_in_lam(law(ramp(frame.count_in_lam())))
    inner = law(ramp(frame.steps + 1))[1:-1]
    return frame.open([frame.top, *(float(t) for t in frame.schedule.t_of_lam(inner))])


def beta(frame: Frame, options: Options) -> list[float]:
    """Quantiles of Beta(a, b), a = b = 0.6 (arXiv 2407.12173), of rho between its ends
    (diffusers)."""
    high, low = (math.exp(-v) for v in frame.lam_range)
    return frame.closed_in_lam(
        -np.log(low + quantile(options, ramp(frame.count_in_lam())) * (high - low))
    )


def beta_t(frame: Frame, options: Options) -> list[float]:
    """The same of t, at ``1 - i/N`` (ComfyUI, which rounds to indices and drops repeated ones; here
    neither)."""
    u = quantile(options, 1.0 - np.arange(frame.steps) / frame.steps)
    return frame.open(
        [frame.top, *frame.warp(frame.bottom + (frame.base_top - frame.bottom) * u[1:])]
    )


def quantile(options: Options, u: Any) -> Any:
    """The inverse distribution function of Beta(a, b)."""
    from scipy.special import betaincinv  # type: ignore[import-untyped]

    return betaincinv(options["a"], options["b"], u)


def kl_optimal(frame: Frame, options: Options) -> list[float]:
    """``atan rho`` linear (arXiv 2404.14507, appendix); finite at rho = inf and rho = 0, so the
    ends are the schedule's own."""
    schedule = frame.schedule
    first, last = math.atan(schedule.rho(frame.top)), math.atan(schedule.rho(frame.bottom))
    angles = last + ramp(frame.closed_count(False)) * (first - last)
    inner = [schedule.time_at_lam(-math.log(math.tan(v))) for v in angles[1:-1]]
    return frame.closed([frame.top, *inner, frame.bottom][: len(angles)])


def linear_quadratic(frame: Frame, options: Options) -> list[float]:
    """Mochi: noise falls linearly by ``threshold`` over the first half of the steps, then
    quadratically to 0; in t."""
    n, threshold = frame.steps, options["threshold"]
    half = max(n // 2, 1)
    i = np.arange(n, dtype=np.float64)
    gap = half - threshold * n
    a = gap / (half * (n - half) ** 2) if n > half else 0.0
    b = threshold / half - 2.0 * gap / (n - half) ** 2 if n > half else 0.0
    g = np.where(i < half, i * threshold / half, a * i * i + b * i + a * half * half)
    return frame.open(
        [frame.top, *frame.warp(frame.bottom + (frame.base_top - frame.bottom) * (1.0 - g[1:]))]
    )


def resample(values: Any, n: int, first: float) -> Any:
    """``n`` points of the falling curve through ``values`` (linear in the index), from where it
    equals ``first`` to its end."""
    u = np.linspace(0.0, 1.0, len(values))
    begin = float(np.interp(-first, -np.asarray(values), u))
    return np.interp(np.linspace(begin, 1.0, n), u, values)


def ays(frame: Frame, options: Options) -> list[float]:
    """A published list of rho, linear in log rho over the index. Its first entry is put on the
    schedule's first rho and its last one kept, log rho between them stretched; a list that ends
    outside the schedule ends at nine tenths of the lam range."""
    table = published(options["table"], AYS, "ays table")
    whole = Frame(frame.schedule, frame.steps, frame.schedule.t_max, frame.final)
    (first, bottom), logs = whole.lam_range, -np.log(table)
    last = logs[-1] if first < logs[-1] < bottom else first + 0.9 * (bottom - first)
    lams = first + (last - first) * (logs - logs[0]) / (logs[-1] - logs[0])
    points = -resample(-lams, frame.steps, -frame.lam_range[0])
    return frame.open([frame.top, *(float(t) for t in frame.schedule.t_of_lam(points[1:]))])


def oss(frame: Frame, options: Options) -> list[float]:
    """A published list of flow times, linear in log t over the index; on Flow as published (the
    first time need not be t_max). Elsewhere its lam are stretched to the schedule's range, and
    linear in lam over the index."""
    from ..flow import Flow

    table = np.asarray(published(options["table"], OSS, "oss table"))
    if isinstance(frame.schedule, Flow):
        begin = frame.top if frame.top < frame.schedule.t_max else table[0]
        points = resample(np.log(table), frame.steps + 1, math.log(begin))
        return frame.open([float(begin), *(math.exp(v) for v in points[1:-1])])
    whole = Frame(frame.schedule, frame.steps, frame.schedule.t_max, frame.final)
    (first, bottom), high = whole.lam_range, min(table[0], 0.999)
    lams = np.log1p(-np.minimum(table, high)) - np.log(np.minimum(table, high))
    lams = first + (bottom - first) * (lams - lams[0]) / (lams[-1] - lams[0])
    points = -resample(-lams, frame.steps + 1, -frame.lam_range[0])
    return frame.open([frame.top, *(float(t) for t in frame.schedule.t_of_lam(points[1:-1]))])


def published(name: str, tables: dict[str, tuple[float, ...]], what: str) -> tuple[float, ...]:
    """The list called ``name``."""
    if not isinstance(name, str) or name not in tables:
        raise GridError(unknown(what, name, tables))
    return tables[name]

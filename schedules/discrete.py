"""A table of noise levels as a continuous path: ``alpha_n = sqrt(abar_n)``,
``sigma_n = sqrt(1 - abar_n)``, n = 0 .. T - 1.

The time t is the table's index, exact at integers. Between integers, one of (the conventions differ
at the 1e-3 level):

    log_rho     log(sigma/alpha) is linear in t    Karras et al. 2022, arXiv 2206.00364
                                                   (k-diffusion)
    log_alpha   log alpha is linear in t           Lu et al. 2022, arXiv 2206.00927
    alpha_bar   alpha^2 is linear in t             Zhang & Chen 2022, arXiv 2204.13902

An interval with a zero-SNR end (alpha = 0) is always alpha_bar. t = -1, and no other t < 0, is
alpha = 1, sigma = 0. The table is kept as ``log abar`` so that sigma keeps its relative precision
where abar is close to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from ..checks import ArgumentError, choice, flag, shown
from .base import LAM_EDGE, Host, Real, Schedule, finite_or_none, like, namespace, ratio, softplus
from .node import Node
from .registry import register

INTERPOLATIONS = ("log_rho", "log_alpha", "alpha_bar")


@register
@dataclass(frozen=True, repr=False)
class DiscreteVP(Schedule):
    """Variance-preserving path through a table of T >= 2 noise levels; build it ``from_betas`` or
    ``from_alphas_cumprod``.

    ``log_table[n] = log abar_n``, strictly decreasing, at most 0; the last may be -inf (zero
    terminal SNR).
    """

    log_table: tuple[float, ...]
    interpolation: str = "log_rho"
    t_min: ClassVar[float] = 0.0
    t_zero: ClassVar[float] = -1.0

    def __post_init__(self) -> None:
        choice("interpolation", self.interpolation, INTERPOLATIONS)
        table = tuple(_numbers("log_table", self.log_table).tolist())
        object.__setattr__(self, "log_table", table)
        if len(table) < 2:
            raise ArgumentError(f"a table of {len(table)} noise levels; at least 2 are needed")
        bad = next((n for n, v in enumerate(table) if not (v < (table[n - 1] if n else 0.0))), None)
        if bad is not None or table[-2] == -math.inf:
            at = len(table) - 2 if bad is None else bad
            raise ArgumentError(
                "alpha_bar must fall strictly from below 1, reaching 0 at the last entry at "
                f"most; entry {at} does not"
            )

    @classmethod
    def examples(cls) -> tuple[Schedule, ...]:
        """The table of 1000 linear betas (arXiv 2006.11239), with each interpolation and with zero
        terminal SNR; a table of four entries."""
        table = cls.from_betas(np.linspace(1e-4, 0.02, 1000).tolist())
        others = (cls(table.log_table, word) for word in INTERPOLATIONS[1:])
        tiny = cls.from_betas([0.1, 0.2, 0.3, 0.4])
        return (table, *others, table.rescale_zero_snr(), tiny)

    @classmethod
    def from_betas(
        cls, betas: Sequence[float], interpolation: str = "log_rho", rescale_zero_snr: bool = False
    ) -> DiscreteVP:
        """``abar_n = prod_{k <= n} (1 - beta_k)``; summed as logarithms. Raises ValueError unless
        0 < beta <= 1, where only the last may be 1."""
        b = _numbers("betas", betas)
        flag("rescale_zero_snr", rescale_zero_snr)
        if b.ndim != 1 or not bool(np.all((b > 0.0) & (b <= 1.0))):
            raise ArgumentError("betas must be a list of numbers with 0 < beta <= 1")
        with np.errstate(divide="ignore"):
            table = cls(tuple(np.cumsum(np.log1p(-b)).tolist()), interpolation)
        return table.rescale_zero_snr() if rescale_zero_snr else table

    @classmethod
    def from_alphas_cumprod(
        cls,
        alphas_cumprod: Sequence[float],
        interpolation: str = "log_rho",
        rescale_zero_snr: bool = False,
    ) -> DiscreteVP:
        """From ``abar_n``, strictly decreasing in (0, 1), the last may be 0. The values of float32
        tables are used without recomputation."""
        a = _numbers("alphas_cumprod", alphas_cumprod)
        flag("rescale_zero_snr", rescale_zero_snr)
        if a.ndim != 1 or not bool(np.all((a >= 0.0) & (a < 1.0))):
            raise ArgumentError("alphas_cumprod must be a list of numbers with 0 <= abar < 1")
        with np.errstate(divide="ignore"):
            table = cls(tuple(np.log(a).tolist()), interpolation)
        return table.rescale_zero_snr() if rescale_zero_snr else table

    def rescale_zero_snr(self) -> DiscreteVP:
        """Zero terminal SNR: ``s_n <- (s_n - s_{T-1}) s_0 / (s_0 - s_{T-1})`` with
        ``s = sqrt(abar)`` (2305.08891, alg. 1)."""
        log_s = 0.5 * np.asarray(self.log_table)
        drop = -np.expm1(log_s - log_s[0])
        with np.errstate(divide="ignore"):
            table = 2.0 * (log_s[0] + np.log1p(-drop / drop[-1]))
        return DiscreteVP(tuple(table.tolist()), self.interpolation)

    @property
    def t_max(self) -> float:
        """``T - 1``."""
        return float(len(self.log_table) - 1)

    @property
    def t_low(self) -> float:
        """0: below it only t = -1 is a time."""
        return 0.0

    @property
    def zero_snr(self) -> bool:
        """Whether the table ends at alpha = 0."""
        return self.log_table[-1] == -math.inf

    @property
    def lam_start(self) -> float:
        """With zero terminal SNR the last finite lam of the table, at least -5.1; else -inf
        (unused)."""
        return max(-LAM_EDGE, float(self._lams[-2])) if self.zero_snr else -math.inf

    @property
    def alphas_cumprod(self) -> tuple[float, ...]:
        """``abar_n``."""
        return tuple(math.exp(v) for v in self.log_table)

    @cached_property
    def _hash(self) -> int:
        return hash((self.log_table, self.interpolation))

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        first, last = math.exp(self.log_table[0]), math.exp(self.log_table[-1])
        return (
            f"DiscreteVP(T={len(self.log_table)}, abar={first:.6g}..{last:.6g}, "
            f"interpolation={self.interpolation!r})"
        )

    @cached_property
    def _logs(self) -> Any:
        return np.asarray(self.log_table)

    @cached_property
    def _lams(self) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(
                np.isneginf(self._logs), -np.inf, 0.5 * (self._logs - np.log(-np.expm1(self._logs)))
            )

    @cached_property
    def _falling(self) -> Any:
        return -self._lams

    @cached_property
    def _host(self) -> tuple[list[float], list[float]]:
        return self._logs.tolist(), self._lams.tolist()

    @cached_property
    def _copies(self) -> dict[Any, tuple[Any, Any]]:
        return {}

    def _columns(self, t: Real) -> tuple[Any, Any]:
        """``log abar`` and ``lam`` as lists for a float, else in the array type, dtype and device
        of ``t``."""
        if isinstance(t, (float, int)):
            return self._host
        if isinstance(t, torch.Tensor):
            if torch.compiler.is_compiling():
                return torch.as_tensor(self._logs).to(t), torch.as_tensor(self._lams).to(t)
            # copied once: a copy to a device waits for it
            if (t.device, t.dtype) not in self._copies:
                with torch.inference_mode(False):
                    self._copies[t.device, t.dtype] = (
                        torch.as_tensor(self._logs).to(t),
                        torch.as_tensor(self._lams).to(t),
                    )
            return self._copies[t.device, t.dtype]
        return self._logs, self._lams

    def _locate(self, t: Real) -> tuple[Any, Any]:
        """Interval number ``n`` (0 .. T - 2) and the position ``w`` in it, for an array; ``w`` is
        NaN where ``t`` is."""
        xp = namespace(t)
        n = xp.clip(xp.nan_to_num(xp.floor(t)), 0, len(self.log_table) - 2)
        return n.to(torch.int64) if xp is torch else np.asarray(n).astype(np.int64), t - n

    def _bars(self, t: Real) -> tuple[Any, Any, Any]:
        """``abar``, ``1 - abar`` and ``d abar / dt`` (toward noise at integers, from below at the
        last)."""
        xp = namespace(t)
        if xp is Host:
            return self._bar(float(t))
        logs, lams = self._columns(t)
        n, w = self._locate(t)
        a, b = logs[n], logs[n + 1]
        zero = b == -math.inf
        drop = xp.exp(a) * xp.expm1(b - a)
        linear = (xp.exp(a) + w * drop, -xp.expm1(a) - w * drop, drop)
        # torch.compile knows no np.errstate
        with nullcontext() if xp is torch else np.errstate(invalid="ignore"):
            if self.interpolation == "alpha_bar":
                mixed = linear
            elif self.interpolation == "log_alpha":
                mixed = _by_log_alpha(xp, a, xp.where(zero, a - 1.0, b), w)
            else:
                mixed = _by_log_rho(xp, lams[n], xp.where(zero, lams[n] - 1.0, lams[n + 1]), w)
        bar, rest, slope = (xp.where(zero, p, q) for p, q in zip(linear, mixed, strict=True))
        low, high = w == 0.0, w == 1.0
        bar = xp.where(low, xp.exp(a), xp.where(high, xp.exp(b), bar))
        rest = xp.where(low, -xp.expm1(a), xp.where(high, -xp.expm1(b), rest))
        clean = t == self.t_zero
        return xp.where(clean, 1.0 + 0.0 * w, bar), xp.where(clean, 0.0 * w, rest), slope

    def _bar(self, t: float) -> tuple[float, float, float]:
        """``_bars`` of one number: computes one branch only, several times faster."""
        logs, lams = self._host
        n = min(max(math.floor(t), 0), len(logs) - 2)
        w, a, b = t - n, logs[n], logs[n + 1]
        if b == -math.inf or self.interpolation == "alpha_bar":
            drop = math.exp(a) * math.expm1(b - a)
            bar, rest, slope = math.exp(a) + w * drop, -math.expm1(a) - w * drop, drop
        elif self.interpolation == "log_alpha":
            bar, rest, slope = _by_log_alpha(Host, a, b, w)
        else:
            first, rise = lams[n], lams[n + 1] - lams[n]
            double = 2.0 * (first + w * rise)
            # softplus of -double and of double
            tail = math.log1p(math.exp(-abs(double)))
            bar = Host.exp(-((0.0 if double > 0.0 else -double) + tail))
            rest = Host.exp(-((double if double > 0.0 else 0.0) + tail))
            slope = 2.0 * bar * rest * rise
        if w == 0.0 or w == 1.0:
            end = a if w == 0.0 else b
            bar, rest = Host.exp(end), -math.expm1(end)
        return (1.0, 0.0, slope) if t == self.t_zero else (bar, rest, slope)

    def rho(self, t: Real) -> Real:
        """``sqrt((1 - abar) / abar)``; inf at alpha = 0."""
        bar, rest, _ = self._bars(t)
        xp = namespace(t)
        return like(t, ratio(xp.sqrt(rest), xp.sqrt(bar)))

    def alpha(self, t: Real) -> Real:
        """``sqrt(abar)``."""
        return like(t, namespace(t).sqrt(self._bars(t)[0]))

    def sigma(self, t: Real) -> Real:
        """``sqrt(1 - abar)``."""
        return like(t, namespace(t).sqrt(self._bars(t)[1]))

    def dalpha(self, t: Real) -> Real:
        """``abar' / (2 alpha)`` of the interval toward noise; -inf at alpha = 0. Unknown (NaN) at t
        = -1."""
        return self._derivative(t, 0)

    def dsigma(self, t: Real) -> Real:
        """``-abar' / (2 sigma)`` of the interval toward noise. Unknown (NaN) at t = -1."""
        return self._derivative(t, 1)

    def _derivative(self, t: Real, which: int) -> Real:
        xp, bars = namespace(t), self._bars(t)
        slope = xp.where(t == self.t_zero, math.nan, bars[2])
        return like(t, ratio((0.5 - which) * slope, xp.sqrt(bars[which])))

    def f(self, t: Real) -> Real:
        """``abar' / (2 abar)``."""
        bar, _, slope = self._bars(t)
        return like(t, ratio(0.5 * slope, bar))

    def g2(self, t: Real) -> Real:
        """``-2 f``."""
        return -2.0 * self.f(t)

    def t_of_lam(self, lam: Real) -> Real:
        """The inverse within the interval that holds ``lam``; beyond the table its end intervals
        are continued."""
        xp = namespace(lam)
        logs, lams = self._columns(lam)
        n = self._interval(lam)
        if self.interpolation == "log_rho" and not self.zero_snr:
            first = lams[n]
            return like(lam, n + (first - lam) / (first - lams[n + 1]))
        a, b = logs[n], logs[n + 1]
        zero = b == -math.inf
        log_bar = -softplus(-2.0 * lam)
        linear = xp.expm1(log_bar - a) / xp.expm1(b - a)
        if self.interpolation == "alpha_bar":
            return like(lam, n + linear)
        if self.interpolation == "log_alpha":
            mixed = (a - log_bar) / xp.where(zero, 1.0 + 0.0 * a, a - b)
        else:
            mixed = (lams[n] - lam) / xp.where(zero, 1.0 + 0.0 * a, lams[n] - lams[n + 1])
        return like(lam, n + xp.where(zero, linear, mixed))

    def _interval(self, lam: Real) -> Any:
        """Number of the interval that holds ``lam``, the first or last for values beyond the
        table."""
        last = len(self.log_table) - 2
        if isinstance(lam, torch.Tensor):
            return torch.clip(
                torch.searchsorted(-torch.as_tensor(self._lams).to(lam), -lam) - 1, 0, last
            )
        if isinstance(lam, (float, int)):
            return min(max(int(self._falling.searchsorted(-lam)) - 1, 0), last)
        found = self._falling.searchsorted(-np.asarray(lam)) - 1
        return np.minimum(np.maximum(found, 0), last)

    def _node(self, t: float) -> Node:
        """The path at index ``t``; t = -1 is alpha = 1, sigma = 0, with unknown derivatives."""
        if t == self.t_zero:
            return Node(1.0, 0.0, t)
        bar, rest, slope = self._bar(t)
        alpha, sigma = math.sqrt(bar), math.sqrt(rest)
        return Node(
            alpha,
            sigma,
            t,
            finite_or_none(0.5 * slope / alpha) if alpha else None,
            finite_or_none(-0.5 * slope / sigma) if sigma else None,
        )


def _numbers(name: str, values: Any) -> Any:
    """A caller's list, array or tensor of numbers as a float64 array."""
    try:
        if np.iscomplexobj(values):
            raise TypeError
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError, NotImplementedError):
        raise ArgumentError(f"{name}={shown(values)} must be a list of numbers") from None


def _by_log_alpha(xp: Any, a: Any, b: Any, w: Any) -> tuple[Any, Any, Any]:
    """``abar``, ``1 - abar`` and the slope with log abar linear between ``a`` and ``b``."""
    log_bar = a + w * (b - a)
    bar = xp.exp(log_bar)
    return bar, -xp.expm1(log_bar), bar * (b - a)


def _by_log_rho(xp: Any, a: Any, b: Any, w: Any) -> tuple[Any, Any, Any]:
    """``_by_log_alpha`` with lam = -log rho linear: ``abar = 1 / (1 + e^{-2 lam})``,
    ``d abar = 2 abar (1 - abar) d lam``."""
    lam = a + w * (b - a)
    bar, rest = xp.exp(-softplus(-2.0 * lam)), xp.exp(-softplus(2.0 * lam))
    return bar, rest, 2.0 * bar * rest * (b - a)

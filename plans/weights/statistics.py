"""Steps of DPM-Solver-v3 (Zheng et al. 2023, arXiv 2310.13268, eqs. 5-11): weights from functions
l, s and b of lam, integrated to rounding.

With ``N = sigma eps - l x`` and ``f = N / alpha`` the probability-flow ODE is

    d(x / alpha) / dlam = -l x / alpha - f,

and f is near a solution of ``f' = s f + b``. In the step from s to t, with ``L``, ``S`` the
integrals of l and s from the step's start and ``B = int e^{-S} b``,

    g(lam)    = e^{-S} f - B
    x_t/alpha_t = e^{-L_t} (x_s/alpha_s - int_s^t e^{L + S} (g + B) dlam),

where g is replaced by a polynomial in lam through the values at past nodes. The functions may be
numbers or have one value for each coordinate. Published code integrates tables by the trapezoid
rule at nodes that are rounded to those of the table; here the functions are cubic splines through
the table, constant beyond its ends, and the integrals are Gauss-Legendre sums on every piece.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ...checks import ArgumentError
from ...schedules.node import Node
from .lagrange import Basis
from .node_distances import lam_gap
from .phi import Array

#: longest piece in lam, and points of a piece
_PIECE, _POINTS = 0.25, 8
_X, _W = np.polynomial.legendre.leggauss(_POINTS)
#: integrals from the start of a piece to each of its points, by values at the points
_UP_TO = np.stack(
    [
        np.polynomial.legendre.legval(_X, c) - np.polynomial.legendre.legval(-1.0, c)
        for c in (np.polynomial.legendre.legint(row) for row in np.eye(_POINTS))
    ],
    axis=1,
) @ np.linalg.inv(np.polynomial.legendre.legvander(_X, _POINTS - 1))


class Curve:
    """A function of lam: the cubic spline through ``values`` (n, *shape) at ``lams`` (n,), which
    rise; constant beyond the ends."""

    def __init__(self, lams: Array, values: Array) -> None:
        self.lams, self.values = lams, values

    @cached_property
    def _spline(self) -> tuple[Any, Any]:
        """The spline and its integral from the first of ``lams``."""
        from scipy.interpolate import CubicSpline  # type: ignore[import-untyped]

        made = CubicSpline(self.lams, self.values, axis=0)
        return made, made.antiderivative()

    def at(self, lams: Sequence[float] | Array) -> Array:
        """Values (k, *shape) at ``lams`` (k,)."""
        if len(self.lams) == 1:
            return np.repeat(self.values, len(lams), axis=0)
        found: Array = self._spline[0](np.clip(lams, self.lams[0], self.lams[-1]))
        return found

    def slope(self, lams: Array) -> Array:
        """Derivatives (k, *shape) at ``lams`` (k,), within the ends."""
        found: Array = self._spline[0](lams, 1)
        return found

    def integral(self, start: float, lams: Array) -> Array:
        """Integrals (k, *shape) from ``start`` to each of ``lams`` (k,)."""
        if len(self.lams) == 1:
            return (lams - start).reshape(-1, *(1,) * (self.values.ndim - 1)) * self.values
        return self._from_first(lams) - self._from_first(np.array([start]))

    def _from_first(self, lams: Array) -> Array:
        inside = np.clip(lams, self.lams[0], self.lams[-1])
        beyond = (lams - inside).reshape(-1, *(1,) * (self.values.ndim - 1))
        ends = self.values[np.where(lams > inside, -1, 0)]
        found: Array = self._spline[1](inside)
        return found + beyond * ends


@dataclass(frozen=True, eq=False)
class Curves:
    """The functions l, s and b; b is None where it is 0."""

    l: Curve  # noqa: E741
    s: Curve
    b: Curve | None = None

    @cached_property
    def knots(self) -> Array:
        """The places where a function or a derivative jumps."""
        lams = [c.lams for c in (self.l, self.s, self.b) if c is not None and len(c.lams) > 1]
        return np.unique(np.concatenate(lams)) if lams else np.zeros(0)


class Update(NamedTuple):
    """A step, ``x_t = carry x_s + sum_j values[j] N_j + constant``, ``N = sigma eps - l x``; each a
    number or an array of the shape of l, ``values`` (nodes, *shape)."""

    carry: Array
    values: Array
    constant: Array


def constant(value: float) -> Curve:
    """The function that is ``value`` everywhere."""
    return Curve(np.zeros(1), np.full(1, float(value)))


def update(curves: Curves, s: Node, t: Node, nodes: Sequence[Node], pseudo: bool = False) -> Update:
    """The step from s to t with the values of N at ``nodes``, of which s is the first.

    ``pseudo``: the k-th derivative of g is k! times its divided difference of the first k + 1 nodes
    instead of that of the polynomial through all nodes. At sigma_t = 0 the step is ``alpha_t D``, D
    the prediction of x0 at s. ArgumentError for a step from sigma = 0 or alpha = 0.
    """
    if s.sigma == 0.0 or s.alpha == 0.0:
        raise ArgumentError(
            f"a step of DPM-Solver-v3 cannot start at alpha={s.alpha!r}, sigma={s.sigma!r} "
            f"(t={s.t}), where lam is infinite"
        )
    if t.sigma == 0.0 or t.alpha == 0.0:
        return _to_the_end(curves, s, t, len(nodes))
    points, lengths = _points(curves, s.lam, t.lam)
    flat = points.reshape(-1)
    count = len(flat)
    places = np.array([*flat, t.lam, *(n.lam for n in nodes)])
    big_l, big_s = (curve.integral(s.lam, places) for curve in (curves.l, curves.s))
    growth = np.exp(big_l[:count] + big_s[:count])
    h = lam_gap(s, t)
    theta = (flat - s.lam) / h
    rows = _newton(s, nodes, theta, h) if pseudo else _lagrange(s, t, nodes, theta)
    measure = (0.5 * lengths[:, None] * _W).reshape(-1)
    weights = np.tensordot(rows * measure, growth, axes=1)
    decay = np.exp(-big_s[count + 1 :])
    last = np.exp(-big_l[count])
    per_alpha = _column([1.0 / n.alpha for n in nodes], decay)
    total: Array = np.zeros_like(last)
    if curves.b is not None:
        ahead = _integrals(curves, s.lam, points, lengths).reshape(growth.shape)
        behind = np.stack([_integral(curves, s.lam, n.lam) for n in nodes])
        total = np.tensordot(measure, growth * ahead, axes=1) - (weights * behind).sum(0)
    factor = -t.alpha * last
    return Update(t.alpha / s.alpha * last, factor * weights * decay * per_alpha, factor * total)


def _to_the_end(curves: Curves, s: Node, t: Node, count: int) -> Update:
    """``alpha_t D + sigma_t eps`` with the x0 and the noise of the state at s, one of the two being
    absent at t: ``sigma_s eps = N + l x`` and ``alpha_s D = x - sigma_s eps``."""
    own = curves.l.at(np.array([s.lam]))[0]
    clean, noisy = t.alpha / s.alpha, t.sigma / s.sigma
    values = np.zeros((count, *own.shape))
    values[0] = noisy - clean
    return Update(clean * (1.0 - own) + noisy * own, values, np.zeros_like(own))


def _column(values: Sequence[float], like: Array) -> Array:
    return np.array(values).reshape(-1, *(1,) * (like.ndim - 1))


def _points(curves: Curves, a: float, b: float) -> tuple[Array, Array]:
    """Points (pieces, _POINTS) from ``a`` to ``b``, and the lengths (pieces,), negative where b is
    below a."""
    low, high = min(a, b), max(a, b)
    knots = curves.knots
    first, last = np.searchsorted(knots, (low, high))
    edges = np.array([low, *knots[first:last], high])
    if np.diff(edges).max() > _PIECE:
        parts = np.maximum(1, np.ceil(np.diff(edges) / _PIECE)).astype(int)
        pieces = zip(edges[:-1], edges[1:], parts, strict=True)
        cut = [np.linspace(x, y, n, endpoint=False) for x, y, n in pieces]
        edges = np.concatenate((*cut, [high]))
    if b < a:
        edges = edges[::-1]
    lengths = np.diff(edges)
    return edges[:-1, None] + lengths[:, None] * (0.5 * (_X + 1.0)), lengths


def _lagrange(s: Node, t: Node, nodes: Sequence[Node], theta: Array) -> Array:
    """The Lagrange basis (nodes, points)."""
    if len(nodes) == 1:
        return np.ones((1, len(theta)))
    return Basis.of(s, t, nodes, "lam").at(theta)


def _newton(s: Node, nodes: Sequence[Node], theta: Array, h: float) -> Array:
    """Rows (nodes, points) of ``sum_k g[n_0, ..., n_k] (lam - lam_s)^k``."""
    places = [lam_gap(s, n) / h for n in nodes]
    rows = np.zeros((len(nodes), len(theta)))
    for k in range(len(nodes)):
        for j in range(k + 1):
            gaps = [places[j] - p for p in (*places[:j], *places[j + 1 : k + 1])]
            rows[j] += theta**k / math.prod(gaps)
    return rows


def _integrals(curves: Curves, start: float, points: Array, lengths: Array) -> Array:
    """``B`` at the points, (pieces, _POINTS, *shape)."""
    assert curves.b is not None
    flat = points.reshape(-1)
    values = np.exp(-curves.s.integral(start, flat)) * curves.b.at(flat)
    values = values.reshape(*points.shape, *values.shape[1:])
    half = _column(list(0.5 * lengths), values[:, 0])
    whole = np.cumsum(half * np.tensordot(values, _W, axes=(1, 0)), axis=0)
    before = np.concatenate((np.zeros_like(whole[:1]), whole[:-1]))
    inside = np.moveaxis(np.tensordot(_UP_TO, values, axes=(1, 1)), 0, 1)
    return before[:, None] + half[:, None] * inside


def _integral(curves: Curves, start: float, end: float) -> Array:
    """``B`` at ``end``."""
    assert curves.b is not None
    points, lengths = _points(curves, start, end)
    flat = points.reshape(-1)
    values = np.exp(-curves.s.integral(start, flat)) * curves.b.at(flat)
    found: Array = np.tensordot((0.5 * lengths[:, None] * _W).reshape(-1), values, axes=1)
    return found

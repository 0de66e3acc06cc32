"""Derivatives by finite differences on equidistant points, one-sided at both ends.

Weights of the first and second derivative at order 2 and 4 follow from Taylor's theorem: they
differentiate every polynomial of degree ``points - 1`` exactly.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ....checks import ArgumentError


@lru_cache(maxsize=256)
def _weights(offsets: tuple[int, ...], derivative: int) -> tuple[float, ...]:
    """Weights of the values at ``offsets`` (in units of the spacing) for the derivative at 0."""
    rows = np.vander(np.array(offsets, dtype=float), increasing=True).T
    right = np.zeros(len(offsets))
    right[derivative] = float(np.prod(np.arange(1, derivative + 1)))
    return tuple(np.linalg.solve(rows, right).tolist())


def difference(value: Tensor, h: float, dim: int, order: int = 4, derivative: int = 1) -> Tensor:
    """``d^derivative value`` (1 or 2) along ``dim`` with points ``h`` apart, of error
    ``O(h^order)`` (2 or 4): central inside, one-sided near both ends, there of one order more, so
    that a mean over the points converges at the order of the inside.

    Raises ArgumentError where there are too few points.
    """
    half = order // 2
    n, end = value.shape[dim], order + derivative + 1
    if n < end:
        raise ArgumentError(
            f"differences of order {order} need at least {end} points along an axis, got {n}"
        )
    x = value.movedim(dim, -1)
    middle = _apply(x, range(-half, half + 1), range(half, n - half), derivative)
    left = [_apply(x, range(-i, end - i), range(i, i + 1), derivative) for i in range(half)]
    right = [
        _apply(x, range(n - end - i, n - i), range(i, i + 1), derivative)
        for i in range(n - half, n)
    ]
    return (torch.cat([*left, middle, *right], -1) / h**derivative).movedim(-1, dim)


def _apply(x: Tensor, offsets: range, at: range, derivative: int) -> Tensor:
    """The weighted sum of the neighbours at ``offsets`` of the points ``at`` of the last axis."""
    weights = _weights(tuple(offsets), derivative)
    terms = [
        w * x[..., at.start + o : at.stop + o] for o, w in zip(offsets, weights, strict=True) if w
    ]
    return torch.stack(terms).sum(0)


def running_integral(value: Tensor, h: float, dim: int) -> Tensor:
    """The integral of ``value`` along ``dim`` from the first point to each, points ``h`` apart, of
    order 4: the cubic through the four points around each interval.

    Raises ArgumentError for fewer than 4 points.
    """
    n = value.shape[dim]
    if n < 4:
        raise ArgumentError(f"an integral of order 4 needs at least 4 points, got {n}")
    x = value.movedim(dim, -1)
    middle = 13.0 * (x[..., 1:-2] + x[..., 2:-1]) - x[..., :-3] - x[..., 3:]
    ends = x.new_tensor([9.0, 19.0, -5.0, 1.0])
    first, last = (x[..., :4] * ends).sum(-1), (x[..., -4:] * ends.flip(0)).sum(-1)
    parts = torch.cat([torch.zeros_like(x[..., :1]), first[..., None], middle, last[..., None]], -1)
    return (parts.cumsum(-1) * (h / 24.0)).movedim(-1, dim)

"""What lies beyond the border of an image: extension along an axis, and its transpose."""

from __future__ import annotations

import torch
from torch import Tensor

#: circular: the other side; zero: 0; reflect: mirrored at the outermost pixel, which is not doubled
BOUNDARIES = ("circular", "zero", "reflect")


def extend(x: Tensor, axis: int, left: int, right: int, boundary: str) -> Tensor:
    """``x`` with ``left`` and ``right`` places more along ``axis``; they are fewer than there
    are."""
    n = x.shape[axis]
    if boundary == "zero":
        before, after = (x.new_zeros(_with(x, axis, k)) for k in (left, right))
    elif boundary == "reflect":
        before = x.narrow(axis, 1, left).flip(axis)
        after = x.narrow(axis, n - 1 - right, right).flip(axis)
    else:
        before, after = x.narrow(axis, n - left, left), x.narrow(axis, 0, right)
    return torch.cat([before, x, after], axis)


def fold(z: Tensor, axis: int, left: int, right: int, boundary: str) -> Tensor:
    """The transpose of ``extend``."""
    n = z.shape[axis] - left - right
    made = z.narrow(axis, left, n).clone()
    before, after = z.narrow(axis, 0, left), z.narrow(axis, left + n, right)
    if boundary == "reflect":
        made.narrow(axis, 1, left).add_(before.flip(axis))
        made.narrow(axis, n - 1 - right, right).add_(after.flip(axis))
    elif boundary == "circular":
        made.narrow(axis, n - left, left).add_(before)
        made.narrow(axis, 0, right).add_(after)
    return made


def _with(x: Tensor, axis: int, count: int) -> list[int]:
    sizes = list(x.shape)
    sizes[axis] = count
    return sizes

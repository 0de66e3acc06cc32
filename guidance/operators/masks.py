"""Masks of what is observed: True where a place is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...checks import ArgumentError, between, choice, integer, shown


def sizes(name: str, value: Sequence[int], axes: int | None = None) -> tuple[int, ...]:
    """``value`` as positive integers, ``axes`` of them. Raises ArgumentError."""
    found = value if isinstance(value, (tuple, list)) else ()
    made = tuple(integer(name, n, 1) for n in found)
    if not made or len(made) != (axes or len(made)):
        what = f"{axes} " if axes else ""
        raise ArgumentError(f"{name}={shown(value)}: must be {what}positive integers")
    return made


def box_mask(size: Sequence[int], box: int | Sequence[int], at: Sequence[int] | None) -> Tensor:
    """False inside a box of ``box`` = (height, width) with its first corner ``at``."""
    h, w = sizes("size", size, 2)
    high, broad = sizes("box", [box, box] if isinstance(box, int) else box, 2)
    if high > h or broad > w or (high, broad) == (h, w):
        raise ArgumentError(f"box={shown(box)}: must be smaller than the image {h} x {w}")
    corner = ((h - high) // 2, (w - broad) // 2) if at is None else at
    if not isinstance(corner, (tuple, list)) or len(corner) != 2:
        raise ArgumentError(f"at={shown(at)}: must be (row, column)")
    top = integer("at", corner[0], 0, h - high)
    left = integer("at", corner[1], 0, w - broad)
    mask = torch.ones(h, w, dtype=torch.bool)
    mask[top : top + high, left : left + broad] = False
    return mask


def random_mask(size: Sequence[int], keep: float, seed: int) -> Tensor:
    """True at a share ``keep`` of the places, at least one."""
    own = sizes("size", size)
    share = 1.0 if keep == 1 else between("keep", keep, 0.0, 1.0)
    total = torch.Size(own).numel()
    order = torch.randperm(total, generator=seeded(seed))
    mask = torch.zeros(total, dtype=torch.bool)
    mask[order[: max(1, round(share * total))]] = True
    return mask.reshape(own)


def half_mask(size: Sequence[int], keep: str) -> Tensor:
    """True in one half."""
    h, w = sizes("size", size, 2)
    choice("keep", keep, ("left", "right", "top", "bottom"))
    axis, count = (1, w // 2) if keep in ("left", "right") else (0, h // 2)
    if not count:
        raise ArgumentError(f"size={shown(size)}: an image of one pixel has no half")
    mask = torch.zeros(h, w, dtype=torch.bool)
    length = w if axis else h
    mask.narrow(axis, 0 if keep in ("left", "top") else length - count, count).fill_(True)
    return mask


def seeded(seed: int) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator().manual_seed(integer("seed", seed, 0, 2**63 - 1))

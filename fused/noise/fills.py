"""Fills a tensor with the normals of ``seeded``, in torch on any device and in numpy on a CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .philox import U64, philox4x32, philox4x32_host

F32: TypeAlias = npt.NDArray[np.float32]

_SCALE = 2.0**-32
_HALF_STEP, _UNIT, _MINUS_TWO, _TURN = (
    np.array(c, np.float32) for c in (0.5, _SCALE, -2.0, 2.0 * math.pi)
)
#: counters worked on at a time: on a CPU the temporaries stay in the second-level cache, elsewhere
#: they stay below half a gigabyte
_HOST_BLOCK, _DEVICE_BLOCK = 1 << 14, 1 << 22


def _blocks(n: int, counters: int, limit: int) -> Iterator[tuple[slice, slice]]:
    """Cut ``n`` samples of ``counters`` blocks each into (samples, counters) ranges of at most
    ``limit`` counters."""
    many = max(1, limit // max(1, counters))
    for row in range(0, n, many):
        for col in range(0, counters, limit):
            yield slice(row, min(row + many, n)), slice(col, min(col + limit, counters))


def fill_torch(
    flat: Tensor, keys: Tensor, stream: int, draw: int, particles: Tensor | None = None
) -> None:
    """Fill ``flat`` (n, size) in torch arithmetic on the device of ``keys``."""
    size = flat.shape[1]
    for rows, cols in _blocks(len(flat), -(-size // 4), _DEVICE_BLOCK):
        element = torch.arange(cols.start, cols.stop, dtype=torch.int64, device=keys.device)
        last = 0 if particles is None else particles[rows, None]
        key = (keys[0, rows, None], keys[1, rows, None])
        words = philox4x32((element, stream, draw, last), key)
        u0, u1, u2, u3 = (word.to(torch.float32).add_(0.5).mul_(_SCALE) for word in words)
        parts = []
        for u, angle in ((u0, u1.mul_(2.0 * math.pi)), (u2, u3.mul_(2.0 * math.pi))):
            radius = u.log_().mul_(-2.0).sqrt_()
            parts += [angle.cos().mul_(radius), angle.sin().mul_(radius)]
        block = torch.stack(parts, dim=-1).flatten(1)
        part = flat[rows, 4 * cols.start : 4 * cols.stop]
        part.copy_(block[:, : part.shape[1]])


def fill_numpy(
    flat: Tensor, keys: Tensor, stream: int, draw: int, particles: Tensor | None = None
) -> None:
    """:func:`fill_torch` on a CPU, in numpy: the longer of the two axes is innermost, whatever
    the layout of the result."""
    out: F32 = flat.numpy()
    seeds: U64 = keys.numpy().view(np.uint64)
    places: U64 | None = None if particles is None else particles.numpy().view(np.uint64)
    constants = tuple(np.array(value, np.uint64) for value in (stream, draw))
    zero = np.array(0, np.uint64)
    for rows, cols in _blocks(len(flat), -(-flat.shape[1] // 4), _HOST_BLOCK):
        (k0, k1), element = (seeds[:, rows], np.arange(cols.start, cols.stop, dtype=np.uint64))
        last: U64 = zero if places is None else places[rows]
        z: F32 = np.empty((len(k0), len(element), 4), np.float32)
        target = z
        if len(k0) == 1:
            k0, k1, last, target = k0.reshape(()), k1.reshape(()), last.reshape(()), z[0]
        elif len(k0) > len(element):
            element, target = element[:, None], z.transpose(1, 0, 2)
        else:
            k0, k1 = k0[:, None], k1[:, None]
            last = last.reshape(-1, 1) if last.ndim else last
        words = philox4x32_host((element, *constants, last), (k0, k1))
        _box_muller(words[0], words[1], target[..., 0], target[..., 1])
        _box_muller(words[2], words[3], target[..., 2], target[..., 3])
        part = out[rows, 4 * cols.start : 4 * cols.stop]
        np.copyto(part, z.reshape(len(z), -1)[:, : part.shape[1]])


def _box_muller(first: U64, second: U64, even: F32, odd: F32) -> None:
    """Two words a block to two normals a block. The functions see contiguous arrays only, where
    SIMD and its tail have the same bits."""
    radius, angle = (word.astype(np.float32) for word in (first, second))
    for u in (radius, angle):
        np.add(u, _HALF_STEP, u)
        np.multiply(u, _UNIT, u)
    np.log(radius, radius)
    np.multiply(radius, _MINUS_TWO, radius)
    np.sqrt(radius, radius)
    np.multiply(angle, _TURN, angle)
    wave = np.cos(angle)
    np.multiply(wave, radius, even)
    np.sin(angle, wave)
    np.multiply(wave, radius, odd)

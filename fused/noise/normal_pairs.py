"""Pairs of normals from 16 bits: half a Philox word for two normals, where plain noise uses two
words.

Half word ``e mod 8`` (16 bits, low half of a word first) of the Philox block

    key = (seed mod 2^32, seed div 2^32),    counter = (e div 8, stream, draw, last)

picks the pair (z1, z2) of element e (its index in C order) from a table of 2^16 points of the
plane: point k is on a spiral, radius ``sqrt(-2 log((k + 1/2) / 2^16))`` and angle k times the
golden angle, and the cloud is whitened. Its mean is 0 and its covariance the identity to rounding,
its third and fourth moments are those of a normal to 1e-3, ``|z| <= 4.86``; a sum of a few
pairs is close to normal. No transcendental function runs on a device, so the bits are the same on
every device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .native import add_native_pairs
from .philox import philox4x32, philox4x32_host

#: half words of a node, (n, size): numpy uint16 on the host, an int32 tensor on a device
Words: TypeAlias = Any
#: stream, draw and last counter word
Address: TypeAlias = tuple[int, int, int]

POINTS = 1 << 16
#: counters worked on at a time on the host
_BLOCK = 1 << 15
_THIRTY_TWO = np.array(32, np.uint64)


@lru_cache(maxsize=1)
def pair_table() -> npt.NDArray[np.float64]:
    """The table of pairs, float64 of shape (2, 2^16)."""
    k = np.arange(POINTS, dtype=np.float64)
    radius = np.sqrt(-2.0 * np.log((k + 0.5) / POINTS))
    angle = 2.0 * math.pi * np.mod(k * (0.5 * (math.sqrt(5.0) - 1.0)), 1.0)
    z: npt.NDArray[np.float64] = np.stack([radius * np.cos(angle), radius * np.sin(angle)])
    z -= z.mean(axis=1, keepdims=True)
    xx, xy, yy = ((z[i] * z[j]).mean() for i, j in ((0, 0), (0, 1), (1, 1)))
    second = z[1] - (xy / xx) * z[0]
    return np.stack([z[0] / math.sqrt(xx), second / math.sqrt(yy - xy * xy / xx)])


@lru_cache(maxsize=8)
def _tables(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    first, second = (torch.from_numpy(z).to(dtype).to(device) for z in pair_table())
    return first, second


@lru_cache(maxsize=2)
def _rows(dtype: torch.dtype) -> Tensor:
    """The table on the host, (2^16, 2): a pair is in one place."""
    return torch.from_numpy(pair_table().T.copy()).to(dtype)


def add_drawn(
    flat: Tensor, keys: Tensor, terms: Sequence[tuple[int, Address, float, float]]
) -> bool:
    """``flat[k] += c1 z1 + c2 z2`` for the pairs at each (k, address, c1, c2) in order, drawn on
    the way; False, with nothing done, where there is no compiled kernel for it. ``flat`` is (sums,
    n, size). The bits are those of ``add_pairs`` with the words of ``draw_words``; neighbours with
    one address share its words."""
    terms = [term for term in terms if term[2] or term[3]]
    return add_native_pairs(flat, keys, _rows(flat.dtype), terms)


def draw_words(keys: Tensor, size: int, addresses: Sequence[Address]) -> list[Words]:
    """The half words of ``size`` elements at each (stream, draw, last) for ``keys``
    (``noise.keys_of``), on their device."""
    if keys.device.type != "cpu":
        return [_draw_device(keys, size, address) for address in addresses]
    seeds, counters = keys.numpy().view(np.uint64), -(-size // 8)
    out = []
    # small samples: several addresses at a time
    many = max(1, _BLOCK // max(1, counters * keys.shape[1]))
    for first in range(0, len(addresses), many):
        out += list(_draw_host(seeds, counters, addresses[first : first + many])[..., :size])
    return out


def _draw_host(
    seeds: npt.NDArray[np.uint64], counters: int, addresses: Sequence[Address]
) -> npt.NDArray[np.uint16]:
    count, n = len(addresses), seeds.shape[1]
    # four half words a number, the first one lowest
    pairs = np.empty((count, n, counters, 2), np.dtype("<u8"))
    shape = (-1, 1, 1) if count > 1 else ()
    fixed = [np.array(column, np.uint64).reshape(shape) for column in zip(*addresses, strict=True)]
    many = max(1, _BLOCK // max(1, counters))
    for row in range(0, n, many):
        for col in range(0, counters, _BLOCK):
            element = np.arange(col, min(col + _BLOCK, counters), dtype=np.uint64)
            k0, k1 = seeds[:, row : row + many, None]
            words = philox4x32_host((element, *fixed), (k0, k1))
            for j in (0, 1):
                np.left_shift(words[2 * j + 1], _THIRTY_TWO, words[2 * j + 1])
                np.bitwise_or(
                    words[2 * j],
                    words[2 * j + 1],
                    pairs[:, row : row + many, col : col + _BLOCK, j],
                )
    return pairs.view(np.dtype("<u2")).reshape(count, n, -1)


def _draw_device(keys: Tensor, size: int, address: Address) -> Words:
    element = torch.arange(-(-size // 8), dtype=torch.int64, device=keys.device)
    words = philox4x32((element, *address), (keys[0, :, None], keys[1, :, None]))
    halves = [half for word in words for half in (word & 0xFFFF, word >> 16)]
    return torch.stack(halves, dim=-1).to(torch.int32).flatten(1)[:, :size]


def add_pairs(flat: Tensor, terms: Sequence[tuple[Words, float, float]]) -> None:
    """``flat += c1 z1 + c2 z2`` for each (words, c1, c2) in order; ``flat`` is (n, size), float32
    or float64. Large batches go through a table of the sums, small ones element by element and many
    terms at a time: the same bits."""
    terms = [(words, c1, c2) for words, c1, c2 in terms if c1 or c2]
    if not terms:
        return
    first, second = _tables(flat.dtype, flat.device)
    if isinstance(terms[0][0], Tensor):
        for words, c1, c2 in terms:
            table = first * c1 + second * c2
            flat.add_(table.index_select(0, words.reshape(-1)).view_as(flat))
        return
    z, one, two = flat.numpy(), first.numpy(), second.numpy()
    if z.size < POINTS:
        picked = np.stack([words for words, _, _ in terms])
        c = np.array([(c1, c2) for _, c1, c2 in terms], z.dtype)[:, :, None, None]
        for row in (
            one.take(picked, mode="clip") * c[:, 0] + two.take(picked, mode="clip") * c[:, 1]
        ):
            z += row
        return
    for words, c1, c2 in terms:
        sums = one * c1 + two * c2
        for row, chosen in zip(z, words, strict=True):
            row += sums.take(chosen, mode="clip")

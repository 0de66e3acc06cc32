"""Philox4x32-10, the counter-based generator of Salmon et al. 2011 ("Parallel random numbers: as
easy as 1, 2, 3", SC11).

A 128-bit counter ``(c0, c1, c2, c3)`` and a 64-bit key ``(k0, k1)`` are mixed by ten rounds

    c0, c1, c2, c3  <-  hi(M1 c2) ^ c1 ^ k0,  lo(M1 c2),  hi(M0 c0) ^ c3 ^ k1,  lo(M0 c0)
    k0, k1          <-  k0 + W0,  k1 + W1     (mod 2^32, between rounds)

with ``hi`` and ``lo`` the 32-bit halves of a 64-bit product. The function is stateless, so any word
of any stream is computed without the words before it, in any order and on any device.

Two forms with the same bits: :func:`philox4x32` on Python ints and int64 tensors (any device), and
:func:`philox4x32_host` on numpy uint64 arrays, about twice as fast on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...checks import ArgumentError

ROUNDS = 10
M0, M1 = 0xD2511F53, 0xCD9E8D57
W0, W1 = 0x9E3779B9, 0xBB67AE85
WORD = 0xFFFFFFFF

#: a 32-bit word, or an int64 tensor of them
Word: TypeAlias = int | Tensor
U64: TypeAlias = npt.NDArray[np.uint64]

#: rounds after which the words of a (key, block number) table have its full shape
_SPREAD = 3
_M0, _M1, _WORD, _HALF = (np.array(n, np.uint64) for n in (M0, M1, WORD, 32))
_KEY_STEPS = tuple(np.arange(ROUNDS, dtype=np.uint64) * np.array(w, np.uint64) for w in (W0, W1))


def philox4x32(
    counter: Sequence[Word], key: Sequence[Word]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four output words of Philox4x32-10 as int64 tensors with values in ``[0, 2^32)``.

    ``counter`` holds four words and ``key`` two; each is a Python int or an int64 tensor with
    values in ``[0, 2^32)``, and tensors broadcast against each other. Words that are shared (a
    stream number, say) stay small until they meet the ones that are not.
    """
    if len(counter) != 4 or len(key) != 2:
        raise ArgumentError(
            f"philox4x32 takes 4 counter words and 2 key words, got {len(counter)} and {len(key)}"
        )
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for turn in range(ROUNDS):
        if turn:
            k0, k1 = (k0 + W0) & WORD, (k1 + W1) & WORD
        high0, low0 = _product(M0, c0)
        high1, low1 = _product(M1, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
    w0, w1, w2, w3 = (torch.as_tensor(word, dtype=torch.int64) for word in (c0, c1, c2, c3))
    return w0, w1, w2, w3


def _product(multiplier: int, word: Any) -> tuple[Any, Any]:
    """High and low 32 bits of ``multiplier * word`` without leaving int64.

    Both multipliers exceed 2^31, so with ``m = multiplier - 2^32`` the product ``m * word`` stays
    within +-2^62, and ``multiplier * word = m * word + word * 2^32``: the high half is
    ``floor(m * word / 2^32) + word``, the low one that of ``m * word``.
    """
    low = word * (multiplier - (1 << 32))
    high = low >> 32
    high += word
    low &= WORD
    return high, low


def philox4x32_host(counter: Sequence[U64], key: Sequence[U64]) -> tuple[U64, U64, U64, U64]:
    """:func:`philox4x32` on numpy uint64 arrays that broadcast against each other; the results have
    the full broadcast shape.

    The first rounds run on the small shapes, the rest in place on six buffers. Numbers are best
    given as 0-d arrays, which numpy dispatches faster than scalars and one-element arrays.
    """
    shape = np.broadcast_shapes(*(word.shape for word in (*counter, *key)))
    keys0, keys1 = (
        (k + step.reshape(-1, *(1,) * k.ndim)) & _WORD
        for k, step in zip(key, _KEY_STEPS, strict=True)
    )
    a0, a1, a2, a3 = counter
    for turn in range(_SPREAD):
        p0, p1 = a0 * _M0, a2 * _M1
        a0, a1 = (p1 >> _HALF) ^ a1 ^ keys0[turn, ...], p1 & _WORD
        a2, a3 = (p0 >> _HALF) ^ a3 ^ keys1[turn, ...], p0 & _WORD
    a0, a1, a2, a3 = (
        a if a.shape == shape else np.array(np.broadcast_to(a, shape)) for a in (a0, a1, a2, a3)
    )
    if not shape:
        # arithmetic on 0-d arrays gives scalars, which take no results
        a0, a1, a2, a3 = (np.array(a) for a in (a0, a1, a2, a3))
    p, high = np.empty(shape, np.uint64), np.empty(shape, np.uint64)
    for turn in range(_SPREAD, ROUNDS):
        np.multiply(a0, _M0, p)
        np.right_shift(p, _HALF, high)
        np.bitwise_xor(high, a3, high)
        np.bitwise_xor(high, keys1[turn, ...], high)
        np.bitwise_and(p, _WORD, p)
        np.multiply(a2, _M1, a3)
        np.right_shift(a3, _HALF, a0)
        np.bitwise_xor(a0, a1, a0)
        np.bitwise_xor(a0, keys0[turn, ...], a0)
        np.bitwise_and(a3, _WORD, a3)
        a1, a2, a3, p, high = a3, high, p, a1, a2
    return a0, a1, a2, a3

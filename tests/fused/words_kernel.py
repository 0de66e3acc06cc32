"""Kernels that store Philox words and what normals are made of. Imported where they run, because
they import triton."""

from __future__ import annotations

import triton
import triton.language as tl

from fewstep.fused.noise.philox_kernel import philox, radius, turn, unit, word


@triton.jit
def words(out, given, N: tl.constexpr):
    """``out`` (4, N) <- the words of the counters and keys ``given``, (6, N) int64."""
    i = tl.arange(0, N)
    c0, c1 = word(tl.load(given + i)), word(tl.load(given + N + i))
    c2, c3 = word(tl.load(given + 2 * N + i)), word(tl.load(given + 3 * N + i))
    k0, k1 = word(tl.load(given + 4 * N + i)), word(tl.load(given + 5 * N + i))
    w0, w1, w2, w3 = philox(c0, c1, c2, c3, k0, k1)
    tl.store(out + i, w0.to(tl.int64))
    tl.store(out + N + i, w1.to(tl.int64))
    tl.store(out + 2 * N + i, w2.to(tl.int64))
    tl.store(out + 3 * N + i, w3.to(tl.int64))


@triton.jit
def radii(out, given, N: tl.constexpr):
    """``out`` (3, N) <- radius, cosine and sine of the words ``given``."""
    i = tl.arange(0, N)
    u = unit(word(tl.load(given + i)))
    c, s = turn(u * 6.283185307179586)
    tl.store(out + i, radius(u))
    tl.store(out + N + i, c)
    tl.store(out + 2 * N + i, s)

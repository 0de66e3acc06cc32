"""Triton code of the noise of ``philox`` and ``seeded``: words, normals, and a kernel that fills a
tensor with normals.

It is imported where a kernel runs, because it imports triton. Logarithm, sine and cosine are the
polynomials of ``native.c``, in plain multiplications and additions that the compiler may not fuse
(``enable_fp_fusion=False`` at the launch), so the normals are those of that kernel.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def philox(c0, c1, c2, c3, k0, k1):
    """The four words of Philox4x32-10; counters and keys are uint32 and broadcast."""
    for _ in tl.static_range(10):
        high0, low0 = tl.umulhi(c0, 0xD2511F53), c0 * 0xD2511F53
        high1, low1 = tl.umulhi(c2, 0xCD9E8D57), c2 * 0xCD9E8D57
        c0, c1 = high1 ^ c1 ^ k0, low1
        c2, c3 = high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + 0x9E3779B9, k1 + 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def unit(w):
    """``(w + 1/2) 2^-32`` in float32."""
    return (w.to(tl.float32) + 0.5) * 2.3283064365386963e-10


@triton.jit
def radius(u):
    """``sqrt(-2 log u)`` for u in (0, 1]; see ``radius_of`` in native.c."""
    shifted = u.to(tl.uint32, bitcast=True) + 0x4AFB0D
    e = ((shifted >> 23).to(tl.int32) - 127).to(tl.float32)
    f = ((shifted & 0x7FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True) - 1.0
    g = f * f
    p = f * -7.859629393e-02 + 1.288166791e-01
    p = p * f + -1.312875748e-01
    p = p * f + 1.418118924e-01
    p = p * f + -1.662455350e-01
    p = p * f + 2.000228614e-01
    p = p * f + -2.500081062e-01
    p = p * f + 3.333331645e-01
    y = f * g * p + e * -2.12194440e-4
    y = f + (y - g * 0.5) + e * 0.693359375
    return tl.sqrt_rn(y * -2.0)


@triton.jit
def turn(a):
    """Cosine and sine of 0 <= a <= 2 pi; see ``turn`` in native.c."""
    k = (a * 0.636619772 + 0.5).to(tl.int32)
    n = k.to(tl.float32)
    r = ((a - n * 1.5703125) - n * 4.837512969970703125e-4) - n * 7.54978995489188e-8
    q = r * r
    sine = r + r * q * (q * (q * -1.949560246e-04 + 8.331978694e-03) + -1.666665077e-01)
    cosine = q * (q * 2.443841549e-05 + -1.388736768e-03) + 4.166664556e-02
    cosine = 1.0 - (q * 0.5 - q * q * cosine)
    odd = (k & 1) == 1
    c, s = tl.where(odd, sine, cosine), tl.where(odd, cosine, sine)
    return tl.where(((k + 1) & 2) == 2, -c, c), tl.where((k & 2) == 2, -s, s)


@triton.jit
def normals(element, stream, draw, last, k0, k1):
    """Normals (R, 4 C) of the blocks ``element`` (1, C): four of them side by side from a block.
    The other counter words and the keys are uint32, scalars or (R, 1)."""
    w0, w1, w2, w3 = philox(element, stream, draw, last, k0, k1)
    r, s = radius(unit(w0)), radius(unit(w2))
    c1, s1 = turn(unit(w1) * 6.283185307179586)
    c3, s3 = turn(unit(w3) * 6.283185307179586)
    z = tl.join(tl.join(r * c1, s * c3), tl.join(r * s1, s * s3))
    return tl.reshape(z, (w0.shape[0], 4 * w0.shape[1]))


@triton.jit
def word(value):
    """The low 32 bits of an integer, as uint32."""
    return value.to(tl.uint32)


@triton.jit
def row_normals(
    keys,
    places,
    stream,
    draw,
    row,
    rows,
    col,
    R: tl.constexpr,
    C: tl.constexpr,
    PLACES: tl.constexpr,
):
    """Normals (R, C) of the elements ``col .. col + C`` (col a multiple of 4) of the samples
    ``row .. row + R``: ``keys`` are (2, rows) int64, ``places`` (rows,) int64."""
    own = row + tl.arange(0, R)[:, None]
    held = own < rows
    k0 = word(tl.load(keys + own, mask=held, other=0))
    k1 = word(tl.load(keys + rows + own, mask=held, other=0))
    last = k0 & 0
    if PLACES:
        last = word(tl.load(places + own, mask=held, other=0))
    element = word(col // 4 + tl.arange(0, C // 4)[None, :])
    return normals(element + (k0 & 0), word(stream), word(draw), last, k0, k1)


@triton.jit(do_not_specialize=["stream", "draw"])
def fill(
    out,
    keys,
    places,
    stream,
    draw,
    rows,
    size,
    R: tl.constexpr,
    C: tl.constexpr,
    PLACES: tl.constexpr,
):
    """``out`` (rows, size) <- normals, R rows and C columns a program."""
    blocks = tl.cdiv(size, C)
    at = tl.program_id(0).to(tl.int64)
    row, col = (at // blocks) * R, (at % blocks) * C
    z = row_normals(keys, places, stream, draw, row, rows, col, R, C, PLACES)
    i, j = tl.arange(0, R)[:, None], tl.arange(0, C)[None, :]
    inside = (i < rows - row) & (j < size - col)
    tl.store(out + row * size + col + i * size + j, z.to(out.dtype.element_ty), mask=inside)

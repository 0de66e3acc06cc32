"""Triton code of the linear step: up to 4 outputs in one pass over the inputs.

It is imported where the kernel runs, because it imports triton; ``device`` makes its arguments.
Elements are (rows, size): samples of a batch, or one row where nothing depends on the sample. A
program computes R rows and C columns of every output.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..noise.philox_kernel import row_normals

#: integers that make no variant of the kernel
PLAIN = ["stream", "draw0", "draw1", "draw2", "draw3", "rows", "step_stride", "row_stride"]


@triton.jit
def add_term(total, x, c, i: tl.constexpr, MASK: tl.constexpr, TABLE: tl.constexpr):
    """``total + c x`` where bit i of ``MASK`` is set, ``c x`` for the lowest bit: one rounding.
    TABLE 1: a coefficient that turns out to be 0 adds nothing, whatever x is."""
    if (MASK >> i) & 1 == 1:
        if MASK & ((1 << i) - 1) == 0:
            made = x * c
        else:
            made = tl.fma(x, c, total)
        if TABLE == 1:
            made = tl.where(c != 0.0, made, total)
        total = made
    return total


@triton.jit
def coefficient(numbers, line, own, held, at: tl.constexpr, TABLE: tl.constexpr):
    """Number ``at`` of the launch: an argument, an entry of the line of a table (1), or one of each
    row (2), (R, 1)."""
    if TABLE == 0:
        return numbers[at]
    elif TABLE == 1:
        return tl.load(line + at)
    else:
        return tl.load(line + own + at, mask=held, other=0.0)


@triton.jit
def coefficients(numbers, line, own, held, k: tl.constexpr, N: tl.constexpr, TABLE: tl.constexpr):
    """The coefficients of input k in the N outputs; those of no output repeat the first."""
    c0 = coefficient(numbers, line, own, held, k * N, TABLE)
    c1, c2, c3 = c0, c0, c0
    if N > 1:
        c1 = coefficient(numbers, line, own, held, k * N + 1, TABLE)
    if N > 2:
        c2 = coefficient(numbers, line, own, held, k * N + 2, TABLE)
    if N > 3:
        c3 = coefficient(numbers, line, own, held, k * N + 3, TABLE)
    return c0, c1, c2, c3


@triton.jit
def rounded(z, LIKE: tl.constexpr):
    """Float32 as bfloat16 (1), float16 (2) or as it is (0)."""
    if LIKE == 1:
        return z.to(tl.bfloat16)
    elif LIKE == 2:
        return z.to(tl.float16)
    else:
        return z


@triton.jit
def nonzero(c):
    """1 where c is not 0, as an integer: the interpreter compares floats to a float."""
    return tl.where(c != 0.0, 1, 0)


@triton.jit
def finish(out, total, bounds, at, inside, j: tl.constexpr, CLAMP: tl.constexpr):
    """Store output j, clamped first where bit j of ``CLAMP`` is set; a NaN stays one."""
    if (CLAMP >> j) & 1 == 1:
        low, high = bounds[2 * j], bounds[2 * j + 1]
        total = tl.where(total < low, low, total)
        total = tl.where(total > high, high, total)
    if out.dtype.element_ty.primitive_bitwidth == 16:
        total = total.to(tl.float32)  # as torch rounds float64 to 16 bits
    tl.store(out + at, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def draw_of(draws, draw0, draw1, draw2, draw3, d: tl.constexpr, INDEX: tl.constexpr):
    """The counter word of noise ``d``: an argument, or an entry of the line of a table."""
    if INDEX:
        return tl.load(draws + d)
    elif d == 0:
        return draw0
    elif d == 1:
        return draw1
    elif d == 2:
        return draw2
    else:
        return draw3


@triton.jit(do_not_specialize=PLAIN)
def step(
    outs,
    ins,
    numbers,
    bounds,
    table,
    index,
    keys,
    places,
    draws,
    stream,
    draw0,
    draw1,
    draw2,
    draw3,
    rows,
    size,
    step_stride,
    row_stride,
    R: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    N: tl.constexpr,
    MASK0: tl.constexpr,
    MASK1: tl.constexpr,
    MASK2: tl.constexpr,
    MASK3: tl.constexpr,
    DRAWN: tl.constexpr,
    LIKE: tl.constexpr,
    PLACES: tl.constexpr,
    CLAMP: tl.constexpr,
    TABLE: tl.constexpr,
    INDEX: tl.constexpr,
    WIDE: tl.constexpr,
):
    """``outs[j] <- clamp_j(sum_i c_ij x_i)`` for j < N, over the bits i of ``MASKj`` in order.

    ``x_i`` is ``ins[i]``, i < K, or where digit i of ``DRAWN`` (base 8) is d + 1 the normals of the
    keys at ``draw_d``, rounded to bfloat16 (LIKE 1) or float16 (2) or not. ``c_ij`` is entry
    ``i N + j`` of ``numbers``, or of a line of ``table`` (TABLE 1: the same for all rows, 2: one a
    row), where lines are ``step_stride`` apart for the steps and ``row_stride`` for the rows.
    INDEX: the step is read from ``index``, and draws from that line of ``draws`` (4 each). Sums are
    float64 where WIDE, else float32.
    """
    accumulator: tl.constexpr = tl.float64 if WIDE else tl.float32
    blocks = tl.cdiv(size, C)
    program = tl.program_id(0).to(tl.int64)
    row, col = (program // blocks) * R, (program % blocks) * C
    i, j = tl.arange(0, R)[:, None], tl.arange(0, C)[None, :]
    held = i < rows - row
    inside = held & (j < size - col)
    at = row * size + col + (i * size + j)
    line = table
    if INDEX:
        which = tl.load(index)
        line = table + which * step_stride
        draws = draws + which * 4
    own = (row + i) * row_stride
    a0 = tl.zeros((R, C), accumulator)
    a1, a2, a3 = a0, a0, a0
    for k in tl.static_range(K):
        c0, c1, c2, c3 = coefficients(numbers, line, own, held, k, N, TABLE)
        if (DRAWN >> (3 * k)) & 7 != 0:
            draw = draw_of(draws, draw0, draw1, draw2, draw3, ((DRAWN >> (3 * k)) & 7) - 1, INDEX)
            x = row_normals(keys, places, stream, draw, row, rows, col, R, C, PLACES)
            x = rounded(x, LIKE)
        else:
            needed = inside
            if TABLE == 1:
                needed = inside & (nonzero(c0) + nonzero(c1) + nonzero(c2) + nonzero(c3) > 0)
            x = tl.load(ins[k] + at, mask=needed, other=0.0)
        x = x.to(accumulator)
        a0 = add_term(a0, x, c0, k, MASK0, TABLE)
        a1 = add_term(a1, x, c1, k, MASK1, TABLE)
        a2 = add_term(a2, x, c2, k, MASK2, TABLE)
        a3 = add_term(a3, x, c3, k, MASK3, TABLE)
    finish(outs[0], a0, bounds, at, inside, 0, CLAMP)
    if N > 1:
        finish(outs[1], a1, bounds, at, inside, 1, CLAMP)
    if N > 2:
        finish(outs[2], a2, bounds, at, inside, 2, CLAMP)
    if N > 3:
        finish(outs[3], a3, bounds, at, inside, 3, CLAMP)

"""Intervals of a Brownian path as linear forms over the normals of a virtual tree.

For ``[s, u]`` of length L (Foster, Oxford thesis 2020, Thm 6.1.4; Jelincic et al. 2024, arXiv
2405.06464, Def. 2.1) the increment W and the space-time integral H are independent:

    W = W_u - W_s ~ N(0, L)
    H = (1/L) int_s^u (W_{s,r} - (r - s)/L W) dr ~ N(0, L/12),    B = L H

The range is cut into equal cells with independent (W, B). Within a cell the tree halves intervals;
with z1, z2 of the node and ``zeta = z1 sqrt(L)/4``, ``n = z2 sqrt(L/12)`` (arXiv 2405.06464, Thm
3.7, r in the middle)

    left half   W' = W/2 + (3/(2L)) B + zeta    B' = B/8 - (L/4) zeta + (L/4) n
    right half  W' = W/2 - (3/(2L)) B - zeta    B' = B/8 - (L/4) zeta - (L/4) n

and in a leaf, for r at distance a from its start and b from its end, d = sqrt(a^3 + b^3) (Thm 3.7),

    W_r = (a/L) W + (6ab/L^3) B + (2(P + Q)/L) z1
    B_r = (a/L)^3 B - P z1 + R z2
    P = a^{7/2} b^{1/2}/(2Ld),  Q = a^{1/2} b^{7/2}/(2Ld),  R = sqrt(3 a^3 b^3)/(6d)

Intervals join by Chen's relation, ``W = W1 + W2, B = B1 + B2 + (L2 W1 - L1 W2)/2``. All of it is
linear in the z, so an interval is a ``Form``: float64 coefficients over the normals of the nodes.
The heap number of a node is 2^level + its place (levels up to 60, leaves included), or 2^63 and
2^63 + 1 for the cell, whose own (W, B) may stand alone and is the sum of two pairs over sqrt 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

#: (cell, number of the node)
Atom: TypeAlias = tuple[int, int]
#: coefficients of z1 and z2 in W, then in B
Row: TypeAlias = tuple[float, float, float, float]
Form: TypeAlias = dict[Atom, Row]
#: (cell, place in it); place 1 is the end of the cell
Place: TypeAlias = tuple[int, float]

_ROOT = 1 << 63
_NONE = (0.0, 0.0, 0.0, 0.0)


class Piece(NamedTuple):
    """An interval in units of the cell: its length, and W and B as linear forms."""

    length: float
    form: Form


def _leaf(a: float, b: float, length: float) -> tuple[Row, Row]:
    """W_r and B_r of a leaf as a form over its (W, B), and over its (z1, z2)."""
    if a == 0.0:
        return _NONE, _NONE
    d = math.sqrt(a**3 + b**3)
    p = a**3.5 * math.sqrt(b) / (2.0 * length * d)
    q = b**3.5 * math.sqrt(a) / (2.0 * length * d)
    c = math.sqrt(3.0 * (a * b) ** 3) / (6.0 * d)
    return (a / length, 6.0 * a * b / length**3, 0.0, (a / length) ** 3), (
        2.0 * (p + q) / length,
        0.0,
        -p,
        c,
    )


def _halve(
    w: float, b: float, left: tuple[float, float], sign: float, length: float
) -> tuple[float, float, float, float]:
    """``w W' + b B'`` of a half (sign 1: the left one, -1: the right one) plus ``left`` times (W',
    B') of the left half, as a form over (W, B) of the whole and its (z1, z2)."""
    zeta, n = 0.25 * math.sqrt(length), math.sqrt(length / 12.0)
    sum_w, sum_b, odd_w, odd_b = w + left[0], b + left[1], sign * w + left[0], sign * b + left[1]
    quarter = 0.25 * length
    return (
        0.5 * sum_w,
        1.5 / length * odd_w + 0.125 * sum_b,
        zeta * (odd_w - quarter * sum_b),
        quarter * n * odd_b,
    )


def prefix(cell: int, x: float, levels: int) -> Piece:
    """The interval from the cell's start to ``x``, 0 < x <= 1: from the leaf up, as a form over (W,
    B) of the current node and the z below it."""
    if x == 1.0:
        return whole(cell)
    place, length = int(math.ldexp(x, levels)), math.ldexp(1.0, -levels)
    inside = x - place * length  # how much of the current node lies before x
    (ww, wb, bw, bb), z = _leaf(inside, length - inside, length)
    rows: dict[int, Row] = {1 << levels | place: z} if inside else {}
    for level in range(levels - 1, -1, -1):
        half, length, right, place = length, 2.0 * length, place & 1, place >> 1
        # the left half comes first: B = B_left + B_inside + (inside W_left - half W_inside) / 2
        if right:
            bw, bb = bw - 0.5 * half * ww, bb - 0.5 * half * wb
            rows = {
                key: (r[0], r[1], r[2] - 0.5 * half * r[0], r[3] - 0.5 * half * r[1])
                for key, r in rows.items()
            }
        sign = -1.0 if right else 1.0
        ww, wb, w1, w2 = _halve(ww, wb, (1.0, 0.0) if right else (0.0, 0.0), sign, length)
        bw, bb, b1, b2 = _halve(bw, bb, (0.5 * inside, 1.0) if right else (0.0, 0.0), sign, length)
        inside += half if right else 0.0
        if inside:
            rows[1 << level | place] = (w1, w2, b1, b2)
    form: Form = {(cell, key): row for key, row in rows.items()}
    _add_root(form, cell, (ww, wb), (bw, bb))
    return Piece(x, form)


def _add_root(form: Form, cell: int, w: Sequence[float], b: Sequence[float]) -> None:
    """Put the cell's own normals into ``form``: ``w`` and ``b`` hold the coefficients of its W and
    B."""
    half, share = math.sqrt(0.5), math.sqrt(0.5 / 12.0)
    for k in (0, 1):
        form[cell, _ROOT + k] = (w[0] * half, w[1] * share, b[0] * half, b[1] * share)


def whole(cell: int) -> Piece:
    """The interval of a whole cell."""
    form: Form = {}
    _add_root(form, cell, (1.0, 0.0), (0.0, 1.0))
    return Piece(1.0, form)


def rest(first: Piece, both: Piece) -> Piece:
    """The part of ``both`` after ``first``: ``W2 = W - W1``,
    ``B2 = B - B1 - (L2 W1 - L1 W2) / 2``."""
    l1, l2 = first.length, both.length - first.length
    form = {}
    for atom in {**both.form, **first.form}:
        w1, w2, b1, b2 = both.form.get(atom, _NONE)
        p1, p2, q1, q2 = first.form.get(atom, _NONE)
        r1, r2 = w1 - p1, w2 - p2
        form[atom] = (
            r1,
            r2,
            b1 - q1 - 0.5 * (l2 * p1 - l1 * r1),
            b2 - q2 - 0.5 * (l2 * p2 - l1 * r2),
        )
    return Piece(l2, form)


def join(first: Piece, second: Piece) -> Piece:
    """Two adjacent intervals joined by Chen's relation."""
    form = {}
    for atom in {**first.form, **second.form}:
        p1, p2, q1, q2 = first.form.get(atom, _NONE)
        r1, r2, s1, s2 = second.form.get(atom, _NONE)
        b1 = q1 + s1 + 0.5 * (second.length * p1 - first.length * r1)
        form[atom] = (
            p1 + r1,
            p2 + r2,
            b1,
            q2 + s2 + 0.5 * (second.length * p2 - first.length * r2),
        )
    return Piece(first.length + second.length, form)


def interval(s: Place, t: Place, levels: int) -> Piece:
    """The interval from ``s`` to ``t``, which must not be before ``s``."""
    (i, x), (j, y) = s, t
    if s == t:
        return Piece(0.0, {})
    if i == j:
        end = prefix(j, y, levels)
        return rest(prefix(i, x, levels), end) if x else end
    piece = rest(prefix(i, x, levels), whole(i)) if x else whole(i)
    for cell in range(i + 1, j):
        piece = join(piece, whole(cell))
    return join(piece, prefix(j, y, levels)) if y else piece

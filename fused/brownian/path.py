"""A Brownian path from one seed: increments W and space-time integrals H of any interval, on any
grid, in any order, without a state.

For ``[s, u]`` of length L (Foster, Oxford thesis 2020, Thm 6.1.4; Jelincic et al. 2024, arXiv
2405.06464, Def. 2.1)

    W = W_u - W_s ~ N(0, L),     H = (1/L) int_s^u (W_{s,r} - (r - s)/L W) dr ~ N(0, L/12),     independent;   B = L H.

The range is cut into equal cells with independent (W, B). Within a cell a virtual tree halves
intervals; with z1, z2 of the node and ``zeta = z1 sqrt(L)/4``, ``n = z2 sqrt(L/12)``

    left half   W' = W/2 + (3/(2L)) B + zeta    B' = B/8 - (L/4) zeta + (L/4) n
    right half  W' = W/2 - (3/(2L)) B - zeta    B' = B/8 - (L/4) zeta - (L/4) n        (arXiv 2405.06464, Thm 3.7, r in the middle)

and in a leaf, for r at distance a from its start and b from its end, d = sqrt(a^3 + b^3),

    W_r = (a/L) W + (6ab/L^3) B + (2(P + Q)/L) z1,   B_r = (a/L)^3 B - P z1 + R z2,
    P = a^{7/2} b^{1/2}/(2Ld),  Q = a^{1/2} b^{7/2}/(2Ld),  R = sqrt(3 a^3 b^3)/(6d).
        (Thm 3.7)

Intervals join by Chen's relation, ``W = W1 + W2, B = B1 + B2 + (L2 W1 - L1 W2)/2``. All of it is
linear in the z: the coefficients of a query are found on the host in float64, and the tensors see
one sum ``c1 z1 + c2 z2`` over nodes. Two times in one leaf share its (z1, z2), so intervals shorter
than ``tol`` are approximate; all others have the exact law. A query costs O(log(cell / tol)) nodes;
what the last query read is kept for the next, whose ancestors are mostly the same, and has no
influence on any bit.

The pair (z1, z2) of a node comes from ``pairs`` at stream ``PATH_STREAM + 2^16 layer + cell`` and
64 bits of (draw, last counter word): the heap number 2^level + place of the node (levels up to 60,
leaves included), or 2^63 and 2^63 + 1 for the cell, whose own (W, B) may stand alone and is the sum
of two pairs over sqrt 2. Plain noise has streams below ``PATH_STREAM``, so no counter is used
twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from ...checks import ArgumentError, integer, number, tensor
from ..noise.normal_pairs import Words, add_pairs, draw_words
from ..noise.philox import WORD
from ..noise.seeded import check_seeds, keys_of

#: streams from here on belong to paths
PATH_STREAM = 1 << 31
MAX_CELLS, MAX_LAYERS, MAX_LEVELS = 1 << 16, 1 << 15, 60

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


def _prefix(cell: int, x: float, levels: int) -> Piece:
    """The interval from the cell's start to ``x``, 0 < x <= 1: from the leaf up, as a form over (W,
    B) of the current node and the z below it."""
    if x == 1.0:
        return _whole(cell)
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
    half, share = math.sqrt(0.5), math.sqrt(0.5 / 12.0)
    for k in (0, 1):
        form[cell, _ROOT + k] = (w[0] * half, w[1] * share, b[0] * half, b[1] * share)


def _whole(cell: int) -> Piece:
    form: Form = {}
    _add_root(form, cell, (1.0, 0.0), (0.0, 1.0))
    return Piece(1.0, form)


def _rest(prefix: Piece, whole: Piece) -> Piece:
    """What is left of ``whole`` after ``prefix``: W = W - W1, B = B - B1 - (L2 W1 - L1 W2) / 2."""
    l1, l2 = prefix.length, whole.length - prefix.length
    form = {}
    for atom in {**whole.form, **prefix.form}:
        w1, w2, b1, b2 = whole.form.get(atom, _NONE)
        p1, p2, q1, q2 = prefix.form.get(atom, _NONE)
        r1, r2 = w1 - p1, w2 - p2
        form[atom] = (
            r1,
            r2,
            b1 - q1 - 0.5 * (l2 * p1 - l1 * r1),
            b2 - q2 - 0.5 * (l2 * p2 - l1 * r2),
        )
    return Piece(l2, form)


def _join(first: Piece, second: Piece) -> Piece:
    """Chen's relation."""
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
    """The interval from s to t, which is not before s."""
    (i, x), (j, y) = s, t
    if s == t:
        return Piece(0.0, {})
    if i == j:
        end = _prefix(j, y, levels)
        return _rest(_prefix(i, x, levels), end) if x else end
    piece = _rest(_prefix(i, x, levels), _whole(i)) if x else _whole(i)
    for cell in range(i + 1, j):
        piece = _join(piece, _whole(cell))
    return _join(piece, _prefix(j, y, levels)) if y else piece


@dataclass
class _Kept:
    """What the last queries read, for one device, dtype and shape: the words of two forms, and
    values at places."""

    key: tuple[object, ...] = ()
    words: dict[Atom, Words] = field(default_factory=dict)
    before: dict[Atom, Words] = field(default_factory=dict)
    values: dict[Place, Tensor] = field(default_factory=dict)


@dataclass(eq=False)
class BrownianPath:
    """The paths of a batch on ``[start, end]``, one seed a sample.

    Attributes:
        seeds: one a sample; sample i depends on ``seeds[i]`` alone.
        start, end: the range of path time.
        tol: the smallest interval of exact law; a leaf is the largest ``cell 2^-k`` that is no
            longer.
        cells: equal parts with a tree each. An interval costs one more node for every whole cell in
            it.
        layer: paths of different layers are independent.

    W is a difference of two values in a cell (absolute rounding of sqrt(cell)), H one sum with
    coefficients of its own. Tensors are computed in float32, in float64 where ``like`` is; other
    dtypes are the float32 values, cast.

    Raises ValueError for an empty range, tol not in (0, end - start], more than 60 levels, cells or
    layers out of range.
    """

    seeds: tuple[int, ...]
    start: float
    end: float
    tol: float
    cells: int = 1
    layer: int = 0
    levels: int = field(init=False)
    _kept: _Kept = field(default_factory=_Kept, init=False, repr=False)
    _keys: dict[torch.device, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.seeds = check_seeds(self.seeds)
        for name, value, low, high in (
            ("cells", self.cells, 1, MAX_CELLS),
            ("layer", self.layer, 0, MAX_LAYERS - 1),
        ):
            integer(name, value, low, high)
        self.start, self.end, self.tol = (
            _number(name, getattr(self, name)) for name in ("start", "end", "tol")
        )
        width = self.end - self.start
        if not 0.0 < width < math.inf:
            raise ArgumentError(
                f"a path from {self.start} to {self.end}: a finite range with start < end is wanted"
            )
        if not 0.0 < self.tol <= width:
            raise ArgumentError(f"tol = {self.tol}: allowed 0 < tol <= {width}")
        self.levels = max(0, math.ceil(math.log2(self.cell / self.tol)))
        if self.levels > MAX_LEVELS:
            raise ArgumentError(
                f"tol = {self.tol} takes {self.levels} halvings of a cell of {self.cell}; "
                f"allowed are {MAX_LEVELS}"
            )

    @property
    def cell(self) -> float:
        """Length of a cell."""
        return (self.end - self.start) / self.cells

    def increment(self, s: float, t: float, like: Tensor) -> Tensor:
        """``W_t - W_s``, shaped like ``like`` (B, *shape). ValueError unless start <= s <= t <=
        end."""
        return self.increments([(s, t)], like)[0]

    def levy(self, s: float, t: float, like: Tensor) -> tuple[Tensor, Tensor]:
        """``(W, H)`` of one interval; H is 0 for an empty one."""
        return self.levies([(s, t)], like)[0]

    def increments(self, spans: Sequence[tuple[float, float]], like: Tensor) -> list[Tensor]:
        """``increment`` of several (s, t) in one call: times and nodes that they share are computed
        once."""
        sums = [_signed(*self._places(s, t)) for s, t in spans]
        kept = self._ready(like)
        values: dict[Place, Tensor] = {}
        for at in sorted({at for terms in sums for at in terms}):
            values[at] = (
                kept.values[at]
                if at in kept.values
                else self._read(_prefix(*at, self.levels).form, 0, 1.0, like)
            )
        kept.values = {at: values[at] for at in sums[-1]} if sums else {}
        out = []
        for terms in sums:
            total = torch.zeros_like(
                like, dtype=_precision(like), memory_format=torch.contiguous_format
            )
            for at, sign in terms.items():
                total.add_(values[at], alpha=sign)
            out.append(total.to(like.dtype))
        return out

    def levies(
        self, spans: Sequence[tuple[float, float]], like: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """``levy`` of several (s, t) in one call."""
        self._ready(like)
        hs = []
        for s, t in spans:
            length, form = interval(*self._places(s, t), self.levels)
            hs.append(self._read(form, 2, 1.0 / (length or 1.0), like).to(like.dtype))
        return list(zip(self.increments(spans, like), hs, strict=True))

    def _places(self, s: float, t: float) -> tuple[Place, Place]:
        s, t = _number("s", s), _number("t", t)
        if not self.start <= s <= t <= self.end:
            raise ArgumentError(
                f"the interval from {s} to {t} leaves this path: allowed {self.start} <= s "
                f"<= t <= {self.end}"
            )
        return self._place(s), self._place(t)

    def _place(self, t: float) -> Place:
        x = (t - self.start) / self.cell
        cell = min(int(x), self.cells)
        # the end of the range is the start of a cell after the last
        return cell, x - cell if cell < self.cells else 0.0

    def _ready(self, like: Tensor) -> _Kept:
        """What is kept for tensors such as ``like``."""
        tensor("like", like)
        if like.ndim == 0 or like.shape[0] != len(self.seeds):
            raise ArgumentError(
                f"a batch of shape {tuple(like.shape)} does not go with {len(self.seeds)} "
                "seeds; allowed is one seed per sample"
            )
        key = (like.device, _precision(like), tuple(like.shape))
        if self._kept.key != key:
            self._kept = _Kept(key)
        return self._kept

    def _read(self, form: Form, which: int, scale: float, like: Tensor) -> Tensor:
        """W (which = 0) or B (2) of a form, times ``scale sqrt(cell)``."""
        kept, n, scale = self._kept, len(self.seeds), scale * math.sqrt(self.cell)
        flat = torch.zeros(
            (n, math.prod(like.shape[1:])), dtype=_precision(like), device=like.device
        )
        if flat.device not in self._keys:
            self._keys[flat.device] = keys_of(self.seeds, flat.device)
        have = {**kept.before, **kept.words}
        missing = [atom for atom in form if atom not in have]
        addresses = [
            (PATH_STREAM + (self.layer << 16) + cell, number & WORD, number >> 32)
            for cell, number in missing
        ]
        have |= zip(
            missing, draw_words(self._keys[flat.device], flat.shape[1], addresses), strict=True
        )
        read = {atom: have[atom] for atom in sorted(form)}
        add_pairs(
            flat,
            [
                (words, scale * form[atom][which], scale * form[atom][which + 1])
                for atom, words in read.items()
            ],
        )
        kept.words, kept.before = read, kept.words
        return flat.view(like.shape)


def _precision(like: Tensor) -> torch.dtype:
    return torch.float64 if like.dtype == torch.float64 else torch.float32


def _signed(s: Place, t: Place) -> dict[Place, float]:
    """``W_t - W_s`` as values at places, each counted from the start of its cell."""
    (i, x), (j, y) = s, t
    terms = dict.fromkeys(((cell, 1.0) for cell in range(i, j)), 1.0)
    if y:
        terms[j, y] = 1.0
    if x:
        terms[i, x] = terms.get((i, x), 0.0) - 1.0
    return {at: sign for at, sign in terms.items() if sign}


def _number(name: str, value: float) -> float:
    """``value`` as a float. ArgumentError where it is no number."""
    return value if isinstance(value, float) else float(number(name, value))

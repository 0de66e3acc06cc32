"""A Brownian path from one seed: increments W and space-time integrals H of any interval, on any
grid, in any order, without a state.

The range of a path is cut into equal cells with a virtual tree each; ``tree`` holds the equations
and gives the coefficients of an interval on the host, in float64. The tensors are one sum
``c1 z1 + c2 z2`` over the nodes of the tree. Two times in one leaf share its (z1, z2), so intervals
shorter than ``tol`` are approximate; all others have the exact law. A query costs
O(log(cell / tol)) nodes. The normals of the last query are kept for the next one, whose nodes are
mostly the same; this has no influence on any bit.

The pair (z1, z2) of a node comes from ``normal_pairs`` at stream
``PATH_STREAM + 2^16 layer + cell`` and 64 bits of (draw, last counter word), which hold the node's
heap number. Plain noise has streams below ``PATH_STREAM``, so no counter is used twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TypeAlias

import torch
from torch import Tensor

from ...checks import ArgumentError, integer, number, tensor
from ..noise.normal_pairs import Address, Words, add_drawn, add_pairs, draw_words
from ..noise.philox import WORD
from ..noise.seeded import check_seeds, keys_of
from .tree import Atom, Form, Place, interval, prefix

#: an interval, whether its W (0) or its B (2) is read, and a factor
Sum: TypeAlias = tuple[Form, int, float]

#: streams from here on belong to paths
PATH_STREAM = 1 << 31
MAX_CELLS, MAX_LAYERS, MAX_LEVELS = 1 << 16, 1 << 15, 60


@dataclass
class _Kept:
    """Cache of the last queries, for one device, dtype and shape: the words of two forms, and
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
        cells: number of equal parts with a tree each. An interval costs one more node for every
            whole cell in it.
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
                f"a path from {self.start} to {self.end}: the range must be finite with start < end"
            )
        if not 0.0 < self.tol <= width:
            raise ArgumentError(f"tol = {self.tol} must be 0 < tol <= {width}")
        self.levels = max(0, math.ceil(math.log2(self.cell / self.tol)))
        if self.levels > MAX_LEVELS:
            raise ArgumentError(
                f"tol = {self.tol} takes {self.levels} halvings of a cell of {self.cell}; "
                f"at most {MAX_LEVELS} are allowed"
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
        places = sorted({at for terms in sums for at in terms})
        values = self._values(places, like)
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
        kept, reads = self._ready(like), []
        for s, t in spans:
            length, form = interval(*self._places(s, t), self.levels)
            reads.append((form, 2, 1.0 / (length or 1.0)))
        at = {place for s, t in spans for place in _signed(*self._places(s, t))}
        missing = sorted(at - kept.values.keys())
        read = self._read([*reads, *self._prefixes(missing)], like)
        kept.values |= zip(missing, read[len(spans) :], strict=True)
        hs = [h.to(like.dtype) for h in read[: len(spans)]]
        return list(zip(self.increments(spans, like), hs, strict=True))

    def _places(self, s: float, t: float) -> tuple[Place, Place]:
        s, t = _number("s", s), _number("t", t)
        if not self.start <= s <= t <= self.end:
            raise ArgumentError(
                f"the interval from {s} to {t} leaves this path: it must be "
                f"{self.start} <= s <= t <= {self.end}"
            )
        return self._place(s), self._place(t)

    def _place(self, t: float) -> Place:
        x = (t - self.start) / self.cell
        cell = min(int(x), self.cells)
        # the end of the range is the start of a cell after the last
        return cell, x - cell if cell < self.cells else 0.0

    def _ready(self, like: Tensor) -> _Kept:
        """The cache for tensors such as ``like``."""
        tensor("like", like)
        if like.ndim == 0 or like.shape[0] != len(self.seeds):
            raise ArgumentError(
                f"a batch of shape {tuple(like.shape)} does not match {len(self.seeds)} "
                "seeds; there must be one seed per sample"
            )
        key = (like.device, _precision(like), tuple(like.shape))
        if self._kept.key != key:
            self._kept = _Kept(key)
        return self._kept

    def _values(self, places: Sequence[Place], like: Tensor) -> dict[Place, Tensor]:
        """W from the start of its cell to each place."""
        have = self._kept.values
        missing = [at for at in places if at not in have]
        have = {
            **have,
            **dict(zip(missing, self._read(self._prefixes(missing), like), strict=True)),
        }
        return {at: have[at] for at in places}

    def _prefixes(self, places: Sequence[Place]) -> list[Sum]:
        return [(prefix(*at, self.levels).form, 0, 1.0) for at in places]

    def _read(self, sums: Sequence[Sum], like: Tensor) -> list[Tensor]:
        """W (which = 0) or B (2) of each (form, which, scale), times ``scale sqrt(cell)``."""
        n, root = len(self.seeds), math.sqrt(self.cell)
        shape = (len(sums), n, math.prod(like.shape[1:]))
        flat = torch.zeros(shape, dtype=_precision(like), device=like.device)
        if flat.device not in self._keys:
            self._keys[flat.device] = keys_of(self.seeds, flat.device)
        terms = [
            (atom, k, scale * root * form[atom][which], scale * root * form[atom][which + 1])
            for k, (form, which, scale) in enumerate(sums)
            for atom in form
        ]
        terms.sort(key=itemgetter(0, 1))  # one node after the other, and its sums
        addressed = [(k, self._address(atom), c1, c2) for atom, k, c1, c2 in terms]
        if not add_drawn(flat, self._keys[flat.device], addressed):
            for k in range(len(sums)):
                self._add(flat[k], [(atom, c1, c2) for atom, j, c1, c2 in terms if j == k])
        # tensors of their own: one that is kept does not keep the others
        rows = flat if len(sums) == 1 else [row.clone() for row in flat]
        return [row.view(like.shape) for row in rows]

    def _add(self, flat: Tensor, terms: Sequence[tuple[Atom, float, float]]) -> None:
        """``flat += c1 z1 + c2 z2`` for each (node, c1, c2), by words that are kept."""
        kept, keys = self._kept, self._keys[flat.device]
        have = {**kept.before, **kept.words}
        missing = [atom for atom, _, _ in terms if atom not in have]
        drawn = draw_words(keys, flat.shape[1], [self._address(atom) for atom in missing])
        have |= zip(missing, drawn, strict=True)
        add_pairs(flat, [(have[atom], c1, c2) for atom, c1, c2 in terms])
        kept.words, kept.before = {atom: have[atom] for atom, _, _ in terms}, kept.words

    def _address(self, atom: Atom) -> Address:
        """Stream, draw and last counter word of a node."""
        cell, number = atom
        return PATH_STREAM + (self.layer << 16) + cell, number & WORD, number >> 32


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
    """``value`` as a float. Raises ArgumentError where it is not a number."""
    return value if isinstance(value, float) else float(number(name, value))

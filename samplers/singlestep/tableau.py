"""Butcher tableaus of explicit Runge-Kutta methods, with their order verified on construction.

A step of size h has stages k_i and a result,

    k_i = f(c_i, y + h sum_j a_ij k_j),    y' = y + h sum_i b_i k_i

A method has order p if ``sum_i b_i Phi_i(tree) = 1 / gamma(tree)`` for all rooted trees of up to p
nodes (Butcher 1963; Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, 2nd ed.,
theorem II.2.13), where for a tree whose root has the branches u_1, ..., u_m

    Phi_i = prod_m sum_j a_ij Phi_j(u_m),    gamma = (number of nodes) prod_m gamma(u_m)

There are 200 trees of up to 8 nodes. ``Tableau`` checks on construction that each row sums to its c
and that the declared order holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from ...checks import ArgumentError

#: largest error of an order condition, relative to its largest term
TOLERANCE = 1e-12

Row = tuple[float, ...]
#: a rooted tree, given by the branches of its root
Tree = tuple["Tree", ...]


@cache
def rooted_trees(size: int) -> tuple[Tree, ...]:
    """All rooted trees with ``size`` nodes; their numbers are 1, 1, 2, 4, 9, 20, 48, 115, ..."""
    if size == 1:
        return ((),)
    return tuple(sorted({grown for tree in rooted_trees(size - 1) for grown in _grown(tree)}))


def _grown(tree: Tree) -> list[Tree]:
    """All trees made by adding one leaf to a node of ``tree``."""
    out: list[Tree] = [tuple(sorted((*tree, ())))]
    for i, branch in enumerate(tree):
        rest = (*tree[:i], *tree[i + 1 :])
        out += [tuple(sorted((*rest, grown))) for grown in _grown(branch)]
    return out


@cache
def _size(tree: Tree) -> int:
    return 1 + sum(_size(branch) for branch in tree)


@cache
def density(tree: Tree) -> int:
    """Density ``gamma`` of the tree."""
    return _size(tree) * math.prod(density(branch) for branch in tree)


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method, with error estimates if it is an embedded pair.

    Attributes:
        order: order of the result; verified on construction.
        c: positions of the stages in the step; the first is 0.
        a: a row for each stage; row k has k entries that sum to ``c[k]``.
        b: weights of the result.
        errors: weights of one or two error estimates. Two, (e5, e3), are combined to
            ``|e5|^2 / sqrt(|e5|^2 + |e3|^2 / 100)``.
        fsal: the error estimates use one more stage, at the end of the step with ``b`` as its row;
            it is reused as the first stage of the next step ("first same as last").

    Raises:
        ArgumentError: rows of the wrong length or sum, or a result of lower order.
    """

    order: int
    c: Row
    a: tuple[Row, ...]
    b: Row
    errors: tuple[Row, ...] = ()
    fsal: bool = False

    def __post_init__(self) -> None:
        count = len(self.c)
        shaped = [len(row) for row in self.a] == list(range(count)) and len(self.b) == count
        if not shaped or any(len(row) != count + self.fsal for row in self.errors):
            raise ArgumentError(f"not an explicit tableau of {count} stages: {self}")
        for k, (row, c) in enumerate(zip(self.a, self.c, strict=True)):
            if abs(math.fsum(row) - c) > TOLERANCE * max([1.0, *map(abs, row)]):
                raise ArgumentError(f"row {k} sums to {math.fsum(row)!r}, must be c={c!r}")
        held = self.order_of(self.b, self.order, 1)
        if held < self.order:
            raise ArgumentError(
                f"a tableau with declared order {self.order} has actual order {held}"
            )

    @classmethod
    def sparse(
        cls,
        order: int,
        c: Row,
        a: Sequence[Mapping[int, float]],
        b: Mapping[int, float],
        errors: Sequence[Mapping[int, float]],
        *,
        fsal: bool,
    ) -> Tableau:
        """Build a tableau from rows and weights given as {stage: value}, without zeros."""
        count = len(c)
        return cls(
            order,
            c,
            tuple(_dense(row, k) for k, row in enumerate(a)),
            _dense(b, count),
            tuple(_dense(row, count + fsal) for row in errors),
            fsal,
        )

    @property
    def power(self) -> int:
        """Power of h in the error estimate."""
        return _error_power(self)

    def order_of(self, weights: Row, most: int, target: int) -> int:
        """Largest tree size, at most ``most``, up to which all trees satisfy
        ``sum weights Phi = target / gamma``."""
        rows = (*self.a, self.b) if len(weights) > len(self.c) else self.a
        known: dict[Tree, list[float]] = {(): [1.0] * len(rows)}
        for size in range(1, most + 1):
            for tree in rooted_trees(size):
                terms = [w * phi for w, phi in zip(weights, _phi(tree, rows, known), strict=True)]
                miss = abs(math.fsum(terms) - target / density(tree))
                if miss > TOLERANCE * max([1.0, *map(abs, terms)]):
                    return size - 1
        return most


@cache
def _error_power(tableau: Tableau) -> int:
    powers = [tableau.order_of(row, tableau.order, 0) + 1 for row in tableau.errors]
    return powers[0] if len(powers) == 1 else 2 * powers[0] - powers[1]


def _dense(row: Mapping[int, float], count: int) -> Row:
    return tuple(row.get(j, 0.0) for j in range(count))


def _phi(tree: Tree, rows: Sequence[Row], known: dict[Tree, list[float]]) -> list[float]:
    """``Phi_i`` of the tree for each stage."""
    if tree not in known:
        factors = [[_weighed(row, _phi(u, rows, known)) for row in rows] for u in tree]
        known[tree] = [math.prod(column) for column in zip(*factors, strict=True)]
    return known[tree]


def _weighed(row: Row, phi: Sequence[float]) -> float:
    return math.fsum(a * p for a, p in zip(row, phi, strict=False))


TABLEAUS = {
    "euler": Tableau(1, (0.0,), ((),), (1.0,)),
    "heun": Tableau(2, (0.0, 1.0), ((), (1.0,)), (0.5, 0.5)),
    "midpoint": Tableau(2, (0.0, 0.5), ((), (0.5,)), (0.0, 1.0)),
    "kutta3": Tableau(3, (0.0, 0.5, 1.0), ((), (0.5,), (-1.0, 2.0)), (1 / 6, 4 / 6, 1 / 6)),
    "ralston3": Tableau(3, (0.0, 0.5, 0.75), ((), (0.5,), (0.0, 0.75)), (2 / 9, 3 / 9, 4 / 9)),
    "heun3": Tableau(3, (0.0, 1 / 3, 2 / 3), ((), (1 / 3,), (0.0, 2 / 3)), (0.25, 0.0, 0.75)),
    "houwen3": Tableau(3, (0.0, 8 / 15, 2 / 3), ((), (8 / 15,), (0.25, 5 / 12)), (0.25, 0.0, 0.75)),
    "ssp3": Tableau(3, (0.0, 1.0, 0.5), ((), (1.0,), (0.25, 0.25)), (1 / 6, 1 / 6, 4 / 6)),
    "rk4": Tableau(
        4,
        (0.0, 0.5, 0.5, 1.0),
        ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
        (1 / 6, 2 / 6, 2 / 6, 1 / 6),
    ),
    "rk38": Tableau(
        4,
        (0.0, 1 / 3, 2 / 3, 1.0),
        ((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
        (1 / 8, 3 / 8, 3 / 8, 1 / 8),
    ),
}

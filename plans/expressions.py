"""Symbolic values of a plan under construction: linear expressions over values and noises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..checks import ArgumentTypeError, shown
from ..schedules.base import host_number
from .instructions import PlanError


class Expression:
    """A linear expression over values (keys >= 0) and noises (key ``-1 - k`` for draw ``k``)."""

    __slots__ = ("terms",)

    def __init__(self, terms: dict[int, float]) -> None:
        if not isinstance(terms, dict):
            raise ArgumentTypeError(
                f"terms={shown(terms)}: must be a dict from value to coefficient"
            )
        self.terms = terms

    def __add__(self, other: Expression | float) -> Expression:
        if not isinstance(other, Expression):
            if other == 0:  # so that sum() works
                return self
            raise ArgumentTypeError(
                f"a plan value can only be added to plan values, not to {other!r}"
            )
        terms = dict(self.terms)
        for key, c in other.terms.items():
            terms[key] = terms.get(key, 0.0) + c
        return Expression(terms)

    __radd__ = __add__

    def __mul__(self, c: float) -> Expression:
        c = c if type(c) is float else _number(c)
        return Expression({k: v * c for k, v in self.terms.items()} if c else {})

    __rmul__ = __mul__

    def __neg__(self) -> Expression:
        return self * -1.0

    def __sub__(self, other: Expression) -> Expression:
        return self + (-other)

    def __truediv__(self, c: float) -> Expression:
        c = c if type(c) is float else _number(c)
        if c == 0.0:
            raise PlanError("a plan value is divided by 0: two nodes of this step coincide")
        return Expression({k: v / c for k, v in self.terms.items()})

    @property
    def bare(self) -> int | None:
        """The value itself when the expression is just one value."""
        if len(self.terms) == 1:
            ((key, c),) = self.terms.items()
            if c == 1.0 and key >= 0:
                return key
        return None


def dot(weights: Iterable[float], values: Iterable[Expression]) -> Expression:
    """``sum w v``, left to right."""
    terms: dict[int, float] = {}
    weights, values = listed("weights", weights), listed("values", values)
    if len(weights) != len(values):
        raise PlanError(f"{len(weights)} weights for {len(values)} values")
    for w, value in zip(weights, values, strict=True):
        if not isinstance(value, Expression):
            raise ArgumentTypeError(f"values hold {shown(value)}: all must be plan values")
        if w := w if type(w) is float else _number(w):
            for key, c in value.terms.items():
                terms[key] = terms.get(key, 0.0) + c * w
    return Expression(terms)


def listed(name: str, values: Iterable[Any]) -> Sequence[Any]:
    """``values`` as a list or tuple; ArgumentTypeError where they cannot be iterated."""
    if not isinstance(values, Iterable):
        raise ArgumentTypeError(f"{name}={shown(values)}: must be a list")
    return values if isinstance(values, (list, tuple)) else list(values)


def _number(c: Any) -> float:
    """A coefficient as a float; NaN and infinity are refused where they are used."""
    if isinstance(c, Expression):
        raise ArgumentTypeError(
            "two values of a plan cannot be multiplied or divided: a plan is linear, so a factor "
            "must be a number that is known before the run"
        )
    try:
        return host_number(c)
    except ArgumentTypeError:
        raise ArgumentTypeError(f"coefficient {shown(c)}: must be a number") from None

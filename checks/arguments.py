"""Checks of single arguments. Each returns the value as a plain Python value, numpy's numbers
included, or raises ArgumentError."""

from __future__ import annotations

import inspect
import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any

from .errors import ArgumentError
from .messages import shown, unknown


def plain(value: Any) -> Any:
    """A numpy number or boolean, or a 0-d array of one, as Python's ``int``, ``float`` or ``bool``;
    any other value unchanged."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def takes(function: Any, name: str) -> bool:
    """Whether ``function`` takes an argument called ``name``; False where that is unknown."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return False
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def choice(name: str, value: object, allowed: Iterable[str]) -> str:
    """``value`` if it is one of ``allowed``. Raises ArgumentError with the nearest match."""
    choices = tuple(allowed)
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(unknown(name, value, choices))
    return value


def integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """``value`` as an ``int`` if it is an integer (Python's or numpy's, no boolean) in [low, high].
    Raises ArgumentError otherwise."""
    found = plain(value)
    whole = (
        not isinstance(found, (bool, type))
        and hasattr(found, "__index__")
        and not hasattr(found, "shape")
    )
    number = operator.index(found) if whole else low - 1
    if not low <= number or (high is not None and number > high):
        span = f">= {low}" if high is None else f"from {low} to {high}"
        raise ArgumentError(f"{name}={shown(value)} must be an integer {span}")
    return number


def number(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> float:
    """``value`` as an ``int`` or ``float`` if it is a finite real number (no boolean) in [low,
    high]. Raises ArgumentError otherwise."""
    found = plain(value)
    real = isinstance(found, numbers.Real) and not isinstance(found, bool)
    if not real or not (is_finite(found) and low <= found <= high):
        span = "a finite number"
        if high < math.inf:
            span = f"a number from {low} to {high}"
        elif low > -math.inf:
            span = f"a finite number >= {low}"
        raise ArgumentError(f"{name}={shown(value)} must be {span}")
    return found if isinstance(found, (int, float)) else float(found)


def between(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """``value`` as an ``int`` or ``float`` if it is a finite real number (no boolean) strictly
    between ``low`` and ``high``. Raises ArgumentError otherwise."""
    found = number(name, value)
    if not low < found < high:
        raise ArgumentError(f"{name}={shown(value)}: must be {low} < {name} < {high}")
    return found


def is_finite(value: Any) -> bool:
    """Whether ``value`` is a real number that is finite in float64."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def flag(name: str, value: object) -> bool:
    """``value`` if it is True or False. Raises ArgumentError otherwise."""
    found = plain(value)
    if not isinstance(found, bool):
        raise ArgumentError(f"{name}={shown(value)} must be True or False")
    return found

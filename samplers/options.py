"""Checks shared by the options classes."""

from __future__ import annotations

import math

from ..schedules.errors import unknown


def choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """ValueError unless ``value`` is one of ``allowed``; names the nearest."""
    if value not in allowed:
        raise ValueError(unknown(name, str(value), allowed))


def integer(name: str, value: object, low: int, high: int) -> None:
    """ValueError unless ``value`` is an int in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}={value!r}: an integer from {low} to {high} is wanted")


def number(name: str, value: object, low: float, high: float) -> None:
    """ValueError unless ``value`` is a finite number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name}={value!r}: a number from {low} to {high} is wanted")


def flag(name: str, value: object) -> None:
    """ValueError unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r}: True or False is wanted")

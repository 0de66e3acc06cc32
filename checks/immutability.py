"""Whether results that were computed from a value may be kept for the next call."""

from __future__ import annotations

from typing import Any


def immutable(value: Any) -> bool:
    """Whether ``value`` is None, or hashable and of a class that is itself a frozen dataclass."""
    if value is None:
        return True
    own = vars(type(value)).get("__dataclass_params__")
    if own is None or not own.frozen:
        return False
    try:
        hash(value)
    except TypeError:
        return False
    return True

"""Lengths of time that a user gives."""

from __future__ import annotations

import re
from typing import Any

from .arguments import number
from .errors import ArgumentError
from .messages import shown

#: unit -> seconds
UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}


def duration(name: str, value: Any) -> float:
    """Seconds >= 0, from a number of seconds or a text such as ``90``, ``90s``, ``5min`` or
    ``1.5h``. ArgumentError, which names the argument, for anything else."""
    if not isinstance(value, str):
        return float(number(name, value, 0.0))
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", value)
    if found is None or found[2] not in UNITS:
        raise ArgumentError(
            f"{name}={shown(value)}: must be seconds, or a number with s, min or h, such as '5min'"
        )
    return float(found[1]) * UNITS[found[2]]

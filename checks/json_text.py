"""JSON from a text that someone else wrote: whatever is wrong with it is one kind of error."""

from __future__ import annotations

import json
from typing import Any

from .errors import ArgumentError


def parse_json(
    text: str | bytes | bytearray, what: str = "JSON text", *, strict: bool = False
) -> Any:
    """The value of a JSON text. ArgumentError where ``text`` is no text, no UTF-8, no JSON, or
    nested too deeply; it names ``what``.

    ``strict``: NaN and Infinity, which Python reads though JSON has none, are refused too.
    """
    if not isinstance(text, (str, bytes, bytearray)):
        raise ArgumentError(f"{what}: a text is wanted, got {type(text).__name__}")
    try:
        return json.loads(text, parse_constant=_refuse) if strict else json.loads(text)
    except RecursionError:
        raise ArgumentError(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise ArgumentError(f"{what} is not readable JSON: {error}") from None


def _refuse(constant: str) -> Any:
    raise ArgumentError(f"{constant} is no JSON number")

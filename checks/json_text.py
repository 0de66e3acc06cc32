"""Parser of JSON text that raises one kind of error, ArgumentError, for any malformed input."""

from __future__ import annotations

import json
from typing import Any

from .errors import ArgumentError


def parse_json(
    text: str | bytes | bytearray, what: str = "JSON text", *, strict: bool = False
) -> Any:
    """The value of a JSON text. Raises ArgumentError, which names ``what``, for anything that is
    not a text in UTF-8, is not JSON, or is nested too deeply.

    ``strict``: refuse NaN and Infinity, which Python reads but JSON does not have.
    """
    if not isinstance(text, (str, bytes, bytearray)):
        raise ArgumentError(f"{what} must be a text, got {type(text).__name__}")
    try:
        return json.loads(text, parse_constant=_refuse) if strict else json.loads(text)
    except RecursionError:
        raise ArgumentError(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise ArgumentError(f"{what} is not readable JSON: {error}") from None


def _refuse(constant: str) -> Any:
    raise ArgumentError(f"{constant} is not a JSON number")

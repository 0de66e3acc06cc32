"""``-o KEY=VALUE`` on the command line: a sampler's options."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from ..checks import ArgumentError

#: how deep a list may stand in a list
DEEPEST = 3


def parse_options(texts: Iterable[str] | None) -> dict[str, Any]:
    """``["order=3", "variant=bh1"]`` as ``{"order": 3, "variant": "bh1"}``.

    A value that reads as a Python literal is one, anything else is a string. ValueError for a text
    without ``=`` or without a name before it, and for a name given twice.
    """
    out: dict[str, Any] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise ArgumentError(f"option {text!r}: KEY=VALUE is wanted, for instance order=3")
        if key in out:
            raise ArgumentError(f"option {text!r}: {key} is given twice")
        out[key] = option_value(key, _value(value.strip()))
    return out


def option_text(options: Mapping[str, Any]) -> str:
    """The inverse, for people: ``order=3 variant=bh1``."""
    return " ".join(f"{key}={value}" for key, value in options.items())


def option_value(key: str, value: Any, depth: int = 0) -> Any:
    """``value`` if it is a number, a word, True, False, None, or a tuple (a list) of them; lists
    come back as tuples. ArgumentError."""
    if isinstance(value, list | tuple) and depth < DEEPEST:
        return tuple(option_value(key, item, depth + 1) for item in value)
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ArgumentError(
            f"option {key!r}: a number, a word, True, False or a list of them is wanted, not "
            f"{type(value).__name__}"
        )
    return value


def plain_option(value: Any) -> Any:
    """A value as strict JSON has it: numbers that are not finite as words, tuples as lists."""
    if isinstance(value, Mapping):
        return {key: plain_option(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_option(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _value(text: str) -> Any:
    try:
        with warnings.catch_warnings():
            # "1if" and "\\d" are words here, not programs with a slip
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text

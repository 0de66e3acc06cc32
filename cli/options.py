"""``-o KEY=VALUE`` and its kin on the command line: options by name."""

from __future__ import annotations

import argparse
import ast
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..checks import ArgumentError
from ..jobs.settings import option_value


def parse_options(texts: Iterable[str] | None) -> dict[str, Any]:
    """``["order=3", "variant=bh1"]`` as ``{"order": 3, "variant": "bh1"}``.

    A value that is a Python literal is read as one, anything else is a string. Raises ArgumentError
    for a text without ``=`` or without a name before it, and for a name given twice.
    """
    out: dict[str, Any] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise ArgumentError(f"option {text!r}: must be KEY=VALUE, for instance order=3")
        if key in out:
            raise ArgumentError(f"option {text!r}: {key} is given twice")
        out[key] = option_value(key, _value(value.strip()))
    return out


def parse_values(flag: str, texts: Iterable[str] | None) -> dict[str, Any]:
    """``["a=0.2,-1.5", "u=115,-0.9"]`` as ``{"a": (0.2, -1.5), "u": (115, -0.9)}``, and
    ``["x=0.1,y=0.2"]`` as ``{"x": 0.1, "y": 0.2}``. Raises ArgumentError."""
    parts: list[str] = []
    for piece in (piece for text in texts or () for piece in text.split(",")):
        if "=" in piece or not parts:
            parts.append(piece)
        else:
            parts[-1] += f",{piece}"
    out: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals or not key or key in out:
            raise ArgumentError(f"{flag} {part!r}: must be NAME=VALUE, each name once")
        out[key] = option_value(key, _value(value.strip()))
    return out


def read_options(args: argparse.Namespace) -> None:
    """Replace the texts of ``-o``, ``-g`` and other ``KEY=VALUE`` flags by options; None where none
    is given."""
    for name in ("option", "guidance_option", "steer_option", "task_option", "method_option"):
        texts = getattr(args, name, None)
        setattr(args, name, parse_options(texts) if texts else None)


def option_text(options: Mapping[str, Any]) -> str:
    """Options as text: ``order=3 variant=bh1``."""
    return " ".join(f"{key}={value}" for key, value in options.items())


def job_options(options: Mapping[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """``options`` as keywords of ``function``. Raises ArgumentError for a name that is a parameter
    of its own, such as ``steps``, and so no option of a sampler."""
    own = inspect.signature(function).parameters
    for key in options:
        if key in own:
            raise ArgumentError(
                f"option {key!r} is no option of a sampler, but an argument of its own: see --help"
            )
    return dict(options)


def _value(text: str) -> Any:
    try:
        with warnings.catch_warnings():
            # "1if" and "\\d" are words here: no warnings about their syntax
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text

"""Texts of error messages: values cut to a readable length, and unknown names with the nearest
match and the allowed names."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

#: most characters of a value shown in a message
LONGEST = 200
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 2, LONGEST, LONGEST, 40


def shown(value: object) -> str:
    """``repr(value)`` for a message, cut where it is long or deep (with YAML aliases a short text
    can be a value of any size)."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # an integer too long for Python to print
        return f"<{type(value).__name__} too long to print>"


def unknown(what: str, name: object, allowed: Iterable[str]) -> str:
    """``unknown <what> 'name'; did you mean 'x'? allowed: a, b, c``, for the text of an
    exception."""
    choices = sorted(allowed)
    plain = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(str(name)[:LONGEST].lower(), plain, n=1, cutoff=0.5)
    hint = f" did you mean {plain[near[0]]!r}?" if near else ""
    return f"unknown {what} {shown(name)};{hint} allowed: {', '.join(choices)}"

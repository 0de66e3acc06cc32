"""Messages for names that do not exist: the value, the nearest match, the allowed values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: letters of a name that a message repeats
LONGEST = 200


def unknown(what: str, name: object, allowed: Iterable[str]) -> str:
    """``unknown <what> 'name'; did you mean 'x'? allowed: a, b, c``, for the text of an exception."""
    choices = sorted(allowed)
    plain = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(str(name)[:LONGEST].lower(), plain, n=1, cutoff=0.5)
    hint = f" did you mean {plain[near[0]]!r}?" if near else ""
    shown = repr(name)
    shown = shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."
    return f"unknown {what} {shown};{hint} allowed: {', '.join(choices)}"

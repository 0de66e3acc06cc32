"""Warnings that point at the caller's code, however deep inside the package they arise."""

from __future__ import annotations

import sys
import warnings

PACKAGE = __name__.split(".")[0]


def warn_caller(text: str, category: type[Warning]) -> None:
    """Issue a warning for the first frame outside this package, so that Python's default filters
    show a DeprecationWarning that arises from a call in ``__main__``."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").split(".")[0] != PACKAGE:
            break
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)

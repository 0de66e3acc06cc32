"""Progress of a job: a line on stderr that is written over; nothing if stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ..checks.commands import tell


def block_progress() -> Callable[[int, int], None]:
    """A callback ``(done, total)`` that prints the block."""
    if not sys.stderr.isatty():
        return lambda done, total: None
    return lambda done, total: tell(f"\rblock {done}/{total}", end="\n" if done == total else "")

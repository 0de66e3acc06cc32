"""Progress bars on stderr, by tqdm; none if stderr is no terminal."""

from __future__ import annotations

import sys
from typing import Any

from ..checks.commands import tell


class Stderr:
    """stderr for tqdm: a terminal that was closed is ignored, so that the job goes on."""

    def write(self, text: str) -> None:
        """Write ``text``."""
        tell(text, end="")

    def flush(self) -> None:
        """Nothing: ``write`` has flushed."""

    def isatty(self) -> bool:
        """True if stderr is a terminal."""
        return sys.stderr.isatty()

    def fileno(self) -> int:
        """The number of stderr, from which tqdm asks the width of the terminal."""
        return sys.stderr.fileno()


class BlockProgress:
    """A progress bar of blocks as a callback ``(done, total)`` and a context manager."""

    def __init__(self) -> None:
        self.bar: Any = None

    def __enter__(self) -> BlockProgress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` blocks are finished."""
        if self.bar is None:
            self.bar = bar(total, "block")
        self.bar.update(done - self.bar.n)


def bar(total: int, unit: str, *, leave: bool = True) -> Any:
    """A tqdm bar, disabled if stderr is no terminal."""
    from tqdm import tqdm

    stream = Stderr()
    return tqdm(total=total, unit=unit, leave=leave, file=stream, disable=not stream.isatty())

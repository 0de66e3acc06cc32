"""Exit codes of commands, and the sentence that a command prints for an error."""

from __future__ import annotations

import errno
from typing import NamedTuple

from .errors import FewstepError, UsageError

OK, BUG, USAGE, BAD_INPUT, NUMERICAL, GATE, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 4, 5, 130, 143

#: libraries whose own errors say that a file is damaged; by name, as checks/ imports none of them
READERS = {"safetensors", "safetensors_rust", "zipfile", "zlib", "yaml", "PIL"}
#: the device is full: files that are finished stay, and the same command goes on
FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM)."""


class Answer(NamedTuple):
    """The exit code and the sentence of an error."""

    code: int
    text: str


def answer(error: BaseException) -> Answer | None:
    """The exit code and sentence for an error of fewstep or of the environment (files, memory,
    signals); None for anything else, which is a bug and shows its traceback."""
    if isinstance(error, KeyboardInterrupt):
        code, what = (
            (TERMINATED, "terminated")
            if isinstance(error, Terminated)
            else (INTERRUPTED, "interrupted")
        )
        return Answer(code, f"{what}; run the same command again to go on")
    if isinstance(error, FewstepError):
        return Answer(_code(error), str(error) or type(error).__name__)
    if isinstance(error, OSError):
        return Answer(BAD_INPUT, _system(error))
    if short_of_memory(error):
        return Answer(
            BAD_INPUT,
            f"out of memory ({_first(error)}); smaller batches, sizes or numbers of samples "
            "need less",
        )
    if type(error).__module__.partition(".")[0] in READERS:
        return Answer(BAD_INPUT, str(error) or type(error).__name__)
    return None


def _code(error: FewstepError) -> int:
    if isinstance(error, ArithmeticError):
        return NUMERICAL
    return USAGE if isinstance(error, UsageError) else BAD_INPUT


def short_of_memory(error: BaseException) -> bool:
    """True if the host or a device ran out of memory."""
    text = str(error).lower()
    torch_says = isinstance(error, RuntimeError) and any(
        words in text for words in ("out of memory", "allocate memory", "enough memory")
    )
    return isinstance(error, MemoryError) or torch_says


def _system(error: OSError) -> str:
    """``No space left on device: 'out/a.png'``."""
    if error.strerror is None:
        return str(error) or type(error).__name__
    where = "" if error.filename is None else f": {str(error.filename)!r}"
    more = "; make room and run the same command again to go on" if error.errno in FULL else ""
    return f"{error.strerror}{where}{more}"


def _first(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__

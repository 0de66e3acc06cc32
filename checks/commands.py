"""How a command runs and ends, whatever its streams are and whatever happens: an exit code, one
sentence on stderr, nothing raw.

A stream that the process was started without (cron, daemons, ``>&-``) is the null device, so that
no file which is opened later gets its number and with it the messages. A character that a
terminal's encoding lacks is written as an escape. Ctrl-C and SIGTERM end a command with one line; a
second one ends it at once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType

from .answers import BAD_INPUT, BUG, INTERRUPTED, OK, TERMINATED, USAGE, Answer, Terminated, answer


class Stops:
    """SIGINT and SIGTERM of a process: the first raises where the program is, the next ends the
    process at once."""

    def __init__(self) -> None:
        self.seen: type[KeyboardInterrupt] | None = None

    def watch(self) -> None:
        """Take the signals; one that someone has already taken, or ignores (``nohup``), is left
        alone."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, before in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, signal.SIG_DFL),
        ):
            if signal.getsignal(number) is before or signal.getsignal(number) == before:
                signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        kind = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if self.seen is not None:
            os._exit(TERMINATED if kind is Terminated else INTERRUPTED)
        self.seen = kind
        raise kind


def guarded(run: Callable[[], int], name: str, *, process: bool = True) -> int:
    """The exit code of ``run()``, or that of the error it ends with, which is said on stderr as
    ``name: error: sentence``.

    ``process``: the whole process is this command, so that its signals may be taken.
    """
    stops = Stops()
    if process:
        stops.watch()
    ready_streams()
    try:
        code = run()
    except SystemExit as stop:  # argparse has said what is wrong
        code = stop.code if isinstance(stop.code, int) else OK if stop.code is None else USAGE
    except BrokenPipeError:
        # the reader of a pipe has gone: nothing is wrong, and nothing more can be said
        code = OK
    except BaseException as error:
        code = _complain(stops.seen() if stops.seen is not None else error, name)
    return _flushed(code, name)


def tell(text: str, end: str = "\n") -> None:
    """Write to stderr; a terminal that has gone is no reason to stop."""
    try:
        sys.stderr.write(f"{text}{end}")
        sys.stderr.flush()
    except (OSError, ValueError):
        return


def ready_streams() -> None:
    """Give the process the streams that it was started without, and an answer for every
    character."""
    try:
        fd = os.open(os.devnull, os.O_RDWR)
        while fd < 3:
            fd = os.dup(fd)
        os.close(fd)
    except OSError:
        pass
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (it lives as long as the process)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
            stream.reconfigure(errors="backslashreplace")


def _complain(error: BaseException, name: str) -> int:
    found = answer(error)
    if found is None:
        tell("".join(traceback.format_exception(type(error), error, error.__traceback__)), end="")
        found = Answer(BUG, f"a fault of {name} itself; please report it with the lines above")
    tell(f"{name}: error: {found.text}")
    return found.code


def _flushed(code: int, name: str) -> int:
    """``code``, after what was printed has left; a reader that has gone is no error, a full device
    is one."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence()
    except (OSError, ValueError) as error:
        _silence()
        if code == OK:
            tell(
                f"{name}: error: standard output cannot be written: "
                f"{getattr(error, 'strerror', None) or error}"
            )
            return BAD_INPUT
    return code


def _silence() -> None:
    """Nothing more goes to stdout, not even when the interpreter ends."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):
        return

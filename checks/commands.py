"""Run a command: its streams, its signals, its exit code, and one sentence on stderr for an error.

Errors of fewstep and of the environment are a sentence; anything else is a bug and shows its
traceback. A stream that the process was started without (cron, daemons, ``>&-``) becomes the null
device; otherwise a file that is opened later would get its number, and with it the messages. A
character that the terminal's encoding lacks is written as an escape. Ctrl-C and SIGTERM end a
command with one line; a second signal ends it at once.
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
    """SIGINT and SIGTERM of a process: the first raises an exception, the next ends the process at
    once."""

    def __init__(self) -> None:
        self.seen: type[KeyboardInterrupt] | None = None

    def watch(self) -> None:
        """Handle the signals, but for one that already has a handler or is ignored (``nohup``)."""
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


def guarded(
    run: Callable[[], int], name: str, *, process: bool = True, show_traceback: bool = False
) -> int:
    """Call ``run()`` and return its exit code, or that of the error it raises, which is printed on
    stderr as ``name: error: sentence``.

    Args:
        run: the command.
        name: of the program, for messages.
        process: the whole process is this command, so its signals may be handled.
        show_traceback: print the traceback of every error, not only of bugs.
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
        # the reader of the pipe has closed it: no error, and nothing can be printed
        code = OK
    except BaseException as error:
        found = stops.seen() if stops.seen is not None else error
        code = _complain(found, name, show_traceback)
    return _flushed(code, name)


def tell(text: str, end: str = "\n") -> None:
    """Write to stderr; a terminal that was closed is ignored."""
    try:
        sys.stderr.write(f"{text}{end}")
        sys.stderr.flush()
    except (OSError, ValueError):
        return


def ready_streams() -> None:
    """Open the streams that the process was started without, and escape characters that their
    encoding lacks."""
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


def _complain(error: BaseException, name: str, show_traceback: bool) -> int:
    """Print what went wrong; the exit code."""
    found = answer(error)
    if found is None or show_traceback:
        tell("".join(traceback.format_exception(type(error), error, error.__traceback__)), end="")
    if found is None:
        found = Answer(BUG, f"a bug in {name}; please report it with the lines above")
    tell(f"{name}: error: {found.text}")
    return found.code


def _flushed(code: int, name: str) -> int:
    """Flush stdout and return ``code``; a closed pipe is no error, a full device is one."""
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
    """Send stdout to the null device, also what the interpreter flushes at its end."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):
        return

"""Files that are there whole or not at all.

A file is written under a name of its own, ``NAME.PID-RANDOM.partial``, forced to the disk and
renamed. Its writer holds a lock on it, so that what a killed process left can be told from what
another process is writing.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..checks import ArgumentError

PARTIAL = ".partial"
#: Windows has no ``fcntl``; it refuses to remove a file that is open, and that is the lock there
POSIX = os.name == "posix"


def write(path: str | Path, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path``; missing folders are made. OSError names the file, and then
    nothing is left behind."""
    with writing(path) as file:
        file.write(data)


def create(path: str | Path, data: bytes | memoryview) -> bool:
    """As ``write``, but only where nothing has the name ``path``: False where something has it,
    which is left as it is.

    Of several processes that create one path at once, one gets True.
    """
    try:
        with writing(path, _put_new) as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


@contextmanager
def writing(
    path: str | Path, put: Callable[[Path, Path], None] | None = None
) -> Iterator[IO[bytes]]:
    """A file to write to, which becomes ``path`` when the block ends without an error and is
    removed otherwise.

    ``put(partial, path)`` gives it its name; by default what has the name is replaced.
    """
    path, put = Path(path), put or os.replace
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ArgumentError(
            f"{str(path)!r} cannot be written: {error.filename!r} is no folder"
        ) from error
    partial = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}")
    file = _locked(partial)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if POSIX:
                put(partial, path)
        if not POSIX:
            put(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


def remove_partials(folder: str | Path) -> None:
    """Remove what killed processes left in ``folder`` (not below it); files that a process is
    writing stay."""
    for partial in Path(folder).glob(f"*{PARTIAL}"):
        try:
            with partial.open("rb") as file:
                if POSIX:
                    _lock(file)
                    partial.unlink()
            if not POSIX:
                partial.unlink()
        except OSError:  # in use, or gone
            continue


def _put_new(partial: Path, path: Path) -> None:
    """Give a file its name where it is free. FileExistsError where it is not."""
    if not POSIX:
        os.rename(partial, path)  # refuses a name that is taken
        return
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.replace(partial, path)
    else:
        partial.unlink(missing_ok=True)


def _locked(partial: Path) -> IO[bytes]:
    """A new file at ``partial`` with its lock. Made again where ``remove_partials`` came between
    the two."""
    while True:
        file = partial.open("xb")
        if not POSIX:
            return file
        try:
            _lock(file)
        except BlockingIOError:  # ``remove_partials`` looks at it at this moment
            pass
        except OSError:  # a file system without locks
            return file
        else:
            if os.fstat(file.fileno()).st_nlink:
                return file
        file.close()
        partial.unlink(missing_ok=True)


def _lock(file: IO[bytes]) -> None:
    """Take the lock of an open file. BlockingIOError where another process has it."""
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

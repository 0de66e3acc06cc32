"""Atomic writes: a file appears with its whole content or not at all.

A file is written under a temporary name, ``NAME.PID-RANDOM.partial``, synced to the disk and
renamed. The writer holds a lock on it, so a file that a killed process left can be told from one
that another process is writing.
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
#: Windows has no ``fcntl``; there, a file that is open cannot be removed, which serves as the lock
POSIX = os.name == "posix"


def write(path: str | Path, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path``; missing folders are made. Raises OSError that names the file, and
    leaves nothing behind."""
    with writing(path) as file:
        file.write(data)


def create(path: str | Path, data: bytes | memoryview) -> bool:
    """Like ``write``, but only if ``path`` does not exist; returns False if it does, and leaves it
    unchanged.

    If several processes create the same path at once, exactly one gets True.
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
    """Context manager: a file that is renamed to ``path`` if the block ends without an error, and
    removed otherwise.

    ``put(partial, path)`` renames it; the default replaces an existing file.
    """
    path, put = Path(path), put or os.replace
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ArgumentError(
            f"{str(path)!r} cannot be written: {error.filename!r} is not a folder"
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
    """Remove temporary files of killed processes in ``folder`` (not below it); files that a process
    is writing stay."""
    for partial in Path(folder).glob(f"*{PARTIAL}"):
        try:
            with partial.open("rb") as file:
                if POSIX:
                    _lock(file)
                    partial.unlink()
            if not POSIX:
                partial.unlink()
        except OSError:  # in use, or already removed
            continue


def _put_new(partial: Path, path: Path) -> None:
    """Rename a file to a name that must be free. Raises FileExistsError if it is not."""
    if not POSIX:
        os.rename(partial, path)  # fails if the name is taken
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
    """A new file at ``partial``, locked. It is made again if ``remove_partials`` removed it before
    the lock was taken."""
    while True:
        file = partial.open("xb")
        if not POSIX:
            return file
        try:
            _lock(file)
        except BlockingIOError:  # ``remove_partials`` is checking it right now
            pass
        except OSError:  # a file system without locks
            return file
        else:
            if os.fstat(file.fileno()).st_nlink:
                return file
        file.close()
        partial.unlink(missing_ok=True)


def _lock(file: IO[bytes]) -> None:
    """Lock an open file. Raises BlockingIOError if another process holds the lock."""
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

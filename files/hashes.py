"""SHA-256 of bytes and of files, in hexadecimal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

#: bytes read at a time
CHUNK = 1 << 20


def sha256(*parts: bytes | memoryview | str | Any) -> str:
    """The hash of ``parts`` one after another: bytes, contiguous buffers, or texts in UTF-8."""
    return _digest(part.encode() if isinstance(part, str) else part for part in parts)


def file_hash(path: str | Path) -> str:
    """The hash of a file's bytes, read in pieces. Raises OSError if it cannot be read."""
    return _digest(pieces(path))


def pieces(path: str | Path) -> Iterator[bytes]:
    """A file's bytes, ``CHUNK`` at a time. Raises OSError if it cannot be read."""
    with Path(path).open("rb") as file:
        yield from iter(lambda: file.read(CHUNK), b"")


def _digest(parts: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()

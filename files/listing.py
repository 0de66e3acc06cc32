"""Listing of the data files below a folder, sorted by name, with the number of files that were left
out and the reasons.

Hidden files and folders (names that begin with a dot, such as ``.ipynb_checkpoints`` and the ``._``
files of macOS) and files of operating systems (``JUNK``) are not data. Linked folders and files are
read. A link to a folder above it, or to a folder that is read already, is left out, so loops end
and no file counts twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checks import ArgumentError

#: files and folders that operating systems, archivers and network storage create
JUNK = frozenset(
    {
        "__macosx",
        "thumbs.db",
        "desktop.ini",
        "@eadir",
        "$recycle.bin",
        "system volume information",
        "lost+found",
    }
)
HIDDEN, OTHER, LOOP, BROKEN = "hidden", "other", "links", "broken"
#: reason -> its text in messages
REASONS = {
    HIDDEN: "hidden",
    OTHER: "of other kinds",
    LOOP: "links to a folder that is read already",
    BROKEN: "links to nothing, pipes or devices",
}
#: names kept for each reason
NAMED = 10


@dataclass
class LeftOut:
    """Files that were left out of a listing, by reason.

    Attributes:
        counts: number of files (for a hidden folder, the files in it; for links, the links).
        entries: number of names.
        names: the first names.
    """

    counts: dict[str, int] = field(default_factory=dict)
    entries: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, why: str, name: str, count: int = 1) -> None:
        """Count ``count`` files under one name."""
        if count:
            self.counts[why] = self.counts.get(why, 0) + count
            self.entries[why] = self.entries.get(why, 0) + 1
            names = self.names.setdefault(why, [])
            if len(names) < NAMED:
                names.append(name)

    @property
    def count(self) -> int:
        """Number of all files left out."""
        return sum(self.counts.values())

    def to_dict(self) -> dict[str, Any]:
        """The total, and the number and first names by reason, for JSON."""
        return {
            "count": self.count,
            **{
                why: {"count": self.counts[why], "files": self.names[why]}
                for why in sorted(self.counts)
            },
        }

    def text(self) -> str:
        """A sentence; empty if nothing was left out."""
        parts = []
        for why in sorted(self.counts):
            shown = [printable(name) for name in self.names[why][:3]] + ["..."] * (
                self.entries[why] > 3
            )
            parts.append(f"{self.counts[why]} {REASONS[why]} ({', '.join(shown)})")
        return f"left out: {'; '.join(parts)}" if parts else ""


def list_files(root: str | Path, suffixes: Collection[str]) -> tuple[list[Path], LeftOut]:
    """The files below ``root`` whose suffixes are among ``suffixes`` (lower case; case of the files
    is ignored), sorted, and the files left out.

    Raises ArgumentError if a folder cannot be opened, since the list would silently lack its files.
    """
    root = Path(root)
    left = LeftOut()
    found: list[Path] = []
    links: list[Path] = [root]
    seen: set[tuple[int, int]] = set()
    above = {_identity(parent) for parent in root.resolve().parents}
    while links:  # real folders first, so that a link to one of them is recognised
        links.sort()
        start = links.pop(0)
        if start != root and (_identity(start) in seen or _identity(start) in above):
            left.add(LOOP, _name(start, root))
            continue
        found += _walk(start, root, suffixes, links, seen, left)
    return sorted(found), left


def _walk(
    start: Path,
    root: Path,
    suffixes: Collection[str],
    links: list[Path],
    seen: set[tuple[int, int]],
    left: LeftOut,
) -> Iterator[Path]:
    """The files below ``start``, without linked folders, which are added to ``links``."""
    folders = [start]
    while folders:
        folder = folders.pop()
        if _identity(folder) in seen:
            left.add(LOOP, _name(folder, root))
            continue
        seen.add(_identity(folder))
        for entry in _entries(folder):
            path = folder / entry.name
            if entry.name.startswith(".") or entry.name.lower() in JUNK:
                within = entry.is_dir(follow_symlinks=False)
                left.add(
                    HIDDEN,
                    _name(path, root) + "/" * within,
                    sum(len(f) for _, _, f in os.walk(path)) if within else 1,
                )
            elif _is(entry.is_dir):
                (links if entry.is_symlink() else folders).append(path)
            elif not _is(entry.is_file):
                left.add(BROKEN, _name(path, root))
            elif path.suffix.lower() in suffixes:
                yield path
            else:
                left.add(OTHER, _name(path, root))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ArgumentError(
            f"the folder {str(folder)!r} cannot be opened: {error.strerror}"
        ) from error


def _is(kind: Callable[[], bool]) -> bool:
    """``kind()``, and False for a link that points to itself."""
    try:
        return kind()
    except OSError:
        return False


def _identity(folder: Path) -> tuple[int, int]:
    """Device and inode, the same for a folder and all links to it."""
    try:
        facts = folder.stat()
    except OSError as error:
        raise ArgumentError(
            f"the folder {str(folder)!r} cannot be opened: {error.strerror}"
        ) from error
    return facts.st_dev, facts.st_ino


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def printable(name: str) -> str:
    """A file's name for the terminal, with escapes for control characters and undecodable bytes."""
    return name if name.isprintable() else repr(name)[1:-1]

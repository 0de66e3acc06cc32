"""The data files below a folder, in order of name, and what is left out of them: counted, and named
by its reason.

Hidden files and folders (a name that begins with a dot, such as ``.ipynb_checkpoints`` and macOS's
``._`` files) and those that systems leave behind (``JUNK``) are no data. Linked folders and files
are read. A link to a folder that holds it, or whose files are read under another name, is left out,
so that a loop ends and no file counts twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checks import ArgumentError

#: files and folders that operating systems, archivers and storage boxes leave
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
#: reason -> how it is said
REASONS = {
    HIDDEN: "hidden",
    OTHER: "of other kinds",
    LOOP: "links to a folder that is read already",
    BROKEN: "links to nothing, pipes or devices",
}
#: names that are given for each reason
NAMED = 10


@dataclass
class LeftOut:
    """What is left out of a folder: for each of ``REASONS`` how many files (of a hidden folder,
    those within; of links, the links), under how many names, and the first of these."""

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
        """How many in all."""
        return sum(self.counts.values())

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the number in all, and number and first names by reason."""
        return {
            "count": self.count,
            **{
                why: {"count": self.counts[why], "files": self.names[why]}
                for why in sorted(self.counts)
            },
        }

    def text(self) -> str:
        """For people; empty where nothing is left out."""
        parts = []
        for why in sorted(self.counts):
            shown = [printable(name) for name in self.names[why][:3]] + ["..."] * (
                self.entries[why] > 3
            )
            parts.append(f"{self.counts[why]} {REASONS[why]} ({', '.join(shown)})")
        return f"left out: {'; '.join(parts)}" if parts else ""


def list_files(root: str | Path, suffixes: Collection[str]) -> tuple[list[Path], LeftOut]:
    """The files below ``root`` whose endings are among ``suffixes`` (lower case; a file's may be
    upper), sorted, and what is left out.

    Raises ArgumentError where a folder cannot be opened: a list that silently lacks some files is
    worse than none.
    """
    root = Path(root)
    left = LeftOut()
    found: list[Path] = []
    links: list[Path] = [root]
    seen: set[tuple[int, int]] = set()
    above = {_identity(parent) for parent in root.resolve().parents}
    while links:  # real folders first: a link to one of them is then known to be a second name
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
    """False also for a link that leads to itself."""
    try:
        return kind()
    except OSError:
        return False


def _identity(folder: Path) -> tuple[int, int]:
    """What is the same for a folder and all links to it."""
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
    """A file's name with escapes for control characters and for bytes that are no text, for the
    terminal."""
    return name if name.isprintable() else repr(name)[1:-1]

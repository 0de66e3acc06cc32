"""The loss log of a training run, ``loss.csv``: rows ``step, images, seconds, lr, loss``, each
ended by a line feed.

A killed run or a full disk can leave an incomplete row at the end. A last line without line feed is
not read, and is removed before the next row is written.
"""

from __future__ import annotations

import csv
from pathlib import Path

HEADER = ("step", "images", "seconds", "lr", "loss")


def read_lines(path: Path) -> list[str]:
    """Return the complete lines of the log, the header first; empty if there is none."""
    text = path.read_text(encoding="utf-8")
    return text[: text.rfind("\n") + 1].splitlines()


def write_row(path: Path, row: tuple[float, ...]) -> None:
    """Append one row; write the header first if the log is new, and remove an incomplete last
    row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
    with path.open("a", newline="", encoding="utf-8") as log:
        writer = csv.writer(log, lineterminator="\n")
        if not whole:
            writer.writerow(HEADER)
        writer.writerow(row)

"""The repository as files: what git has or would add, and the package's own sources among it."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: top-level folders that are no part of the package
NOT_SHIPPED = frozenset({"tests", "benchmarks", "docs"})
#: made here, never committed; for trees without git
MADE = frozenset({"build", "dist", "checkpoints", "samples", "site", "__pycache__"})


def files() -> list[Path]:
    """Every file that is tracked, or untracked and not ignored; links aside. Relative paths,
    sorted."""
    command = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ]
    listed = (
        subprocess.run(command, capture_output=True, text=True, check=False)
        if (ROOT / ".git").exists()
        else None
    )
    if listed is not None and listed.returncode == 0:
        found = {Path(name) for name in listed.stdout.split("\0") if name}
    else:
        found = {path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()}
        found = {
            path
            for path in found
            if not any(part.startswith(".") or part in MADE for part in path.parts)
        }
    return sorted(
        path for path in found if (ROOT / path).is_file() and not (ROOT / path).is_symlink()
    )


def sources() -> list[Path]:
    """The package's Python files: the root's and the rooms'."""
    return [path for path in files() if path.suffix == ".py" and path.parts[0] not in NOT_SHIPPED]


def rooms() -> list[str]:
    """Top-level folders that are part of the package."""
    return sorted({path.parts[0] for path in sources() if len(path.parts) > 1})

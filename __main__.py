"""``python -m fewstep``: the command line."""

from __future__ import annotations

import sys

try:
    from .checks.commands import guarded
except KeyboardInterrupt:  # before anything is there that could answer it
    sys.exit(130)


def start() -> int:
    """The command of ``sys.argv``; also its imports may be interrupted."""
    from .cli import run

    return run()


if __name__ == "__main__":
    sys.exit(guarded(start, "fewstep"))

"""``python -m fewstep``: the command line."""

from __future__ import annotations

import sys

try:
    from .checks.commands import guarded
except KeyboardInterrupt:  # before the handler of signals is there
    sys.exit(130)


def start() -> int:
    """Run the command of ``sys.argv``; its imports may be interrupted too."""
    from .cli import run_command

    return run_command()


if __name__ == "__main__":
    sys.exit(guarded(start, "fewstep", show_traceback="--traceback" in sys.argv))

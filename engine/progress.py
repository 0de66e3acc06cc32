"""Progress of a run, printed on one line of stderr."""

from __future__ import annotations

import sys


def print_progress(done: int, total: int) -> None:
    """Print ``done/total`` over the line before; end the line when all is done."""
    print(f"\r{done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

"""Which steps of a run are noisy in an iteration of training: a window that slides.

MixGRPO (Li et al. 2025, arXiv 2507.21802): the window starts at the first steps, those of
most noise, and moves by ``shift`` after every ``every`` iterations.
"""

from __future__ import annotations

from ... import checks
from ...checks import ArgumentError


def sliding_window(
    iteration: int,
    steps: int,
    size: int = 4,
    *,
    shift: int = 1,
    every: int = 25,
    restart: bool = True,
) -> tuple[int, int]:
    """Return the window ``(first, stop)`` of ``flow_sde``, ``flow_cps`` or ``ddim`` in an iteration
    of training (0, 1, ...).

    Args:
        steps: number of steps of the run; its last one, to the data, is never in the window.
        size: number of steps in the window.
        shift: steps that the window moves by.
        every: iterations after which it moves.
        restart: begin again at step 0 after the last whole window; else stay there.

    The authors' code lets the window run over the end, where it shrinks to nothing; here the last
    window is the last whole one.
    """
    checks.integer("iteration", iteration, 0)
    checks.integer("steps", steps, 2)
    checks.integer("size", size, 1)
    checks.integer("shift", shift, 1)
    checks.integer("every", every, 1)
    checks.flag("restart", restart)
    if size > steps - 1:
        raise ArgumentError(f"size={size}: {steps} steps have {steps - 1} that can be noisy")
    count = (steps - 1 - size) // shift + 1
    move = iteration // every
    first = shift * (move % count if restart else min(move, count - 1))
    return first, first + size

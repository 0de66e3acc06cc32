"""The memory that one block of samples needs, compared with that of the machine."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from ..checks import ArgumentError

#: states of a block in memory at the same time, at least: the state, a prediction, a kept
#: prediction, the next state
STATES = 4


def refuse_large(shape: Sequence[int], batch: int) -> None:
    """Raise ArgumentError if the states of one block are larger than this machine's memory."""
    needed, there = 4 * STATES * batch * math.prod(shape), memory()
    if there is not None and needed > there:
        sizes = (
            f"{needed / 1e9:.3g} GB for {STATES} states of {batch} samples of shape "
            f"{tuple(shape)}, of {there / 1e9:.3g} GB here"
        )
        raise ArgumentError(
            f"the memory does not hold one block: {sizes}; give a smaller batch or size"
        )


def memory() -> int | None:
    """Bytes of this machine's memory; None if the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None

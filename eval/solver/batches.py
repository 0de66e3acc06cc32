"""A batch in parts: samples and their conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...checks import integer
from ...models.denoiser import Condition


def row_batches(
    n: int, batch: int | None, cond: Condition = None
) -> Iterator[tuple[slice, Condition]]:
    """The rows of ``n`` samples, at most ``batch`` at a time (all for None), with their conditions.
    ValueError for batch < 1."""
    size = n if batch is None else batch
    if batch is not None:
        integer("batch", batch, 1, 1 << 31)
    for first in range(0, n, max(size, 1)):
        rows = slice(first, first + size)
        yield rows, condition(cond, rows)


def condition(cond: Condition, rows: slice) -> Condition:
    """The conditions of some samples."""
    if isinstance(cond, Mapping):
        return {name: value[rows] for name, value in cond.items()}
    return None if cond is None else cond[rows]

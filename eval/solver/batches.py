"""Batches of samples with their conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...checks import integer
from ...models.denoiser import Condition


def row_batches(
    n: int, batch: int | None, cond: Condition = None
) -> Iterator[tuple[slice, Condition]]:
    """Iterate over the rows of ``n`` samples, at most ``batch`` at a time (None: all), with their
    conditions. ValueError for batch < 1."""
    size = n if batch is None else batch
    if batch is not None:
        integer("batch", batch, 1, 1 << 31)
    for first in range(0, n, max(size, 1)):
        rows = slice(first, first + size)
        yield rows, condition(cond, rows)


def condition(cond: Condition, rows: slice) -> Condition:
    """The conditions of the samples ``rows``."""
    if isinstance(cond, Mapping):
        return {name: value[rows] for name, value in cond.items()}
    return None if cond is None else cond[rows]

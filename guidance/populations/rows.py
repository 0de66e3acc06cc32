"""``Rows``, who the rows of a population are; their conditions; outputs of several network calls
joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...checks import ArgumentError
from ...models.denoiser import Condition


class Rows(NamedTuple):
    """Of each row of a population: the place of its sample, the seed of the sample, and the number
    of the particle."""

    samples: tuple[int, ...]
    seeds: tuple[int, ...]
    particles: tuple[int, ...]


def joined(parts: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    """The raw outputs of several calls as those of one."""
    if len(parts) == 1:
        return tuple(parts[0])
    if len({len(part) for part in parts}) > 1:
        raise ArgumentError("the network returned another number of outputs in another call")
    return tuple(torch.cat(list(each)) for each in zip(*parts, strict=True))


def rows_of(cond: Condition, samples: Tensor) -> Condition:
    """The condition of these samples."""
    if cond is None:
        return None
    if isinstance(cond, Tensor):
        return cond.index_select(0, samples.to(cond.device))
    return {key: value.index_select(0, samples.to(value.device)) for key, value in cond.items()}

"""Random numbers of guidance, addressed by the seed of a sample and the time of the call.

Draw number and stream of a Philox block (``fused.noise.seeded``) are

    stream = GUIDANCE_STREAM,    draw = 32 bits of the BLAKE2b hash of t (float64)

so the numbers are fresh at each noise level. They do not depend on the batch, on the order of the
calls and on earlier calls; a level that is visited again gets the same numbers, so what is drawn is
a fixed function of (sample, t).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from struct import pack

import torch
from torch import Tensor

from ...checks import ArgumentError, host_constant
from ...fused.noise.philox import philox4x32
from ...fused.noise.seeded import GUIDANCE_STREAM, keys_of, normals_of_keys


@dataclass(frozen=True, eq=False)
class Seeds:
    """The seeds of a batch. None: sample i has seed i (outside a run, and in runs without
    seeds)."""

    values: tuple[int, ...] | None = None
    _keys: dict[tuple[int, torch.device], Tensor] = field(default_factory=dict)

    def select(self, rows: Tensor) -> Seeds:
        """Return the seeds of the samples ``rows``."""
        places = [int(row) for row in rows.tolist()]
        if self.values is None:
            return Seeds(tuple(places))
        return Seeds(tuple(self.values[place] for place in places))

    def normals(
        self, times: Sequence[float], batch: int, shape: Sequence[int], device: torch.device
    ) -> Tensor:
        """Return unit normals (batch, *shape), float32, for ``times``, one or ``batch``."""
        if torch.compiler.is_compiling():
            return _normals(self.values, tuple(times), batch, tuple(shape), device)[0]
        return self._normals(times, batch, shape, device)

    def _normals(
        self, times: Sequence[float], batch: int, shape: Sequence[int], device: torch.device
    ) -> Tensor:
        keys, draws = self.keys(batch, device), [draw_of(t) for t in times]
        if len(set(draws)) == 1:
            return normals_of_keys(keys, shape, stream=GUIDANCE_STREAM, draw=draws[0])
        each = [
            normals_of_keys(keys[:, i : i + 1], shape, stream=GUIDANCE_STREAM, draw=draw)
            for i, draw in enumerate(draws)
        ]
        return torch.cat(each)

    def integers(
        self,
        times: Sequence[float],
        batch: int,
        shape: Sequence[int],
        count: int,
        device: torch.device,
    ) -> Tensor:
        """Return integers (batch, *shape), int64, uniform over 0 .. count - 1, for ``times``, one
        or ``batch``. Element e is ``floor(word_e count / 2^32)`` with the words of the sample's
        Philox blocks."""
        if torch.compiler.is_compiling():
            return _integers(self.values, tuple(times), batch, tuple(shape), count, device)[0]
        return self._integers(times, batch, shape, count, device)

    def _integers(
        self,
        times: Sequence[float],
        batch: int,
        shape: Sequence[int],
        count: int,
        device: torch.device,
    ) -> Tensor:
        keys, draws = self.keys(batch, device), [draw_of(t) for t in times]
        size = torch.Size(shape).numel()
        element = torch.arange(-(-size // 4), dtype=torch.int64, device=device)
        column = draws[0] if len(draws) == 1 else torch.tensor(draws).to(device)[:, None]
        counter = (element, GUIDANCE_STREAM, column, 0)
        words = philox4x32(counter, (keys[0, :, None], keys[1, :, None]))
        flat = torch.stack(words, dim=-1).flatten(1)[:, :size]
        return ((flat * count) >> 32).reshape(batch, *shape)

    def keys(self, batch: int, device: torch.device) -> Tensor:
        """Return the Philox keys (2, batch), made once for each device. Raises ArgumentError for
        another number of samples."""
        if self.values is not None and len(self.values) != batch:
            raise ArgumentError(f"{len(self.values)} seeds for {batch} samples")
        if (batch, device) not in self._keys:
            own = tuple(range(batch)) if self.values is None else self.values
            self._keys[batch, device] = keys_of(own, device)
        return self._keys[batch, device]


# under torch.compile: constants of the graph, in a tuple, which has a name of its own there


@host_constant
def _normals(
    values: tuple[int, ...] | None,
    times: tuple[float, ...],
    batch: int,
    shape: tuple[int, ...],
    device: torch.device,
) -> tuple[Tensor]:
    return (Seeds(values)._normals(times, batch, shape, device),)


@host_constant
def _integers(
    values: tuple[int, ...] | None,
    times: tuple[float, ...],
    batch: int,
    shape: tuple[int, ...],
    count: int,
    device: torch.device,
) -> tuple[Tensor]:
    return (Seeds(values)._integers(times, batch, shape, count, device),)


def draw_of(t: float) -> int:
    """Return the draw number of the time ``t``."""
    return int.from_bytes(blake2b(pack("<d", t + 0.0), digest_size=4).digest(), "little")

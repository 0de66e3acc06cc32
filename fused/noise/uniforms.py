"""Uniform numbers addressed by (sample seed, stream, draw, element, particle), for draws of tokens.

Element ``e`` of a row is made from the Philox4x32-10 block

    key     = (seed mod 2^32, seed div 2^32)
    counter = (e div 4, stream, draw, particle)          ->  four 32-bit words w0, w1, w2, w3

by ``u = (floor(w / 2^9) + 1/2) 2^-23``, where ``e mod 4`` picks the word. This value has 24
significant bits, so float32 holds it without rounding: ``0 < u < 1`` has the same bits on every
device, in any batch and at any place of it. An event of probability p has the frequency p to
2^-23 = 1.2e-7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...checks import ArgumentError, integer
from .native import UNIFORMS, fill
from .philox import WORD, philox4x32
from .seeded import check_seeds, keys_of

#: stream of the tokens that a sampler draws
TOKEN_STREAM = 6


@dataclass(frozen=True)
class SeededUniforms:
    """The uniform numbers of a batch: one seed and one particle number per row.

    ``noise(draw, shape, device)`` is draw number ``draw`` of the stream, (rows, *shape), float32.
    ``particles``: one number per row, the fourth counter word; empty means 0 for every row.
    """

    seeds: tuple[int, ...]
    particles: tuple[int, ...] = ()
    stream: int = TOKEN_STREAM
    _words: dict[torch.device, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", check_seeds(self.seeds))
        numbers = tuple(integer("particles", p, 0, WORD) for p in self.particles)
        object.__setattr__(self, "particles", numbers or (0,) * len(self.seeds))
        integer("stream", self.stream, 0, WORD)
        if len(self.particles) != len(self.seeds):
            raise ArgumentError(
                f"{len(self.particles)} particles and {len(self.seeds)} seeds: there must be one "
                "of each per row"
            )

    def __call__(
        self,
        draw: int,
        shape: Sequence[int],
        device: torch.device | str | None = None,
        stream: int | None = None,
    ) -> Tensor:
        """Uniform numbers (rows, *shape) in (0, 1); ``shape`` is that of one row, ``stream``
        another stream of the same rows. Raises ArgumentError for a draw outside ``[0, 2^32)``."""
        integer("draw", draw, 0, WORD)
        stream = self.stream if stream is None else integer("stream", stream, 0, WORD)
        keys, particles = self._on(torch.device("cpu") if device is None else torch.device(device))
        size = math.prod(shape)
        flat = torch.empty((keys.shape[1], size), dtype=torch.float32, device=keys.device)
        if fill(flat, keys, UNIFORMS, (stream, draw, 0), particles):
            return flat.view(-1, *shape)
        element = torch.arange(-(-size // 4), dtype=torch.int64, device=keys.device)
        words = philox4x32(
            (element, stream, draw, particles[:, None]), (keys[0][:, None], keys[1][:, None])
        )
        block = torch.stack(words, dim=-1).flatten(1)[:, :size]
        return (block >> 9).to(torch.float32).add_(0.5).mul_(2.0**-23).reshape(-1, *shape)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Keys (2, rows) and particles (rows,) on ``device``, made once per device."""
        if device not in self._words:
            numbers = torch.tensor(self.particles, dtype=torch.int64, device=device)
            self._words[device] = keys_of(self.seeds, device), numbers
        return self._words[device]

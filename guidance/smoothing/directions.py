"""Random directions of zeroth-order gradients, addressed by the seed of a sample and a time.

Block k of a sample holds directions ``k size .. (k + 1) size - 1``. It is one draw of the Philox
generator (``fused.noise.seeded``) with

    stream = GUIDANCE_STREAM,    draw = 32 bits of the BLAKE2b hash of (t, k)

so a direction depends on the seed, on t and on its number, not on the batch. At the same t a sample
gets the same directions again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from hashlib import blake2b
from struct import pack

import torch
from torch import Tensor

from ...fused.noise.seeded import GUIDANCE_STREAM, normals_of_keys

#: directions of one block; orthogonal ones have blocks of d, the number of elements
BLOCK = 32


def blocks(keys: Tensor, shape: tuple[int, ...], count: int, t: float) -> Iterator[Tensor]:
    """Yield ``count`` directions ``u ~ N(0, I)`` for each of the B samples, as float32 (B, up to
    ``BLOCK``, *shape). ``keys``: (2, B), of ``keys_of``."""
    for k, first in enumerate(range(0, count, BLOCK)):
        size = min(BLOCK, count - first)
        yield normals_of_keys(keys, (size, *shape), stream=GUIDANCE_STREAM, draw=_draw(t, k))


def orthogonal_blocks(
    keys: Tensor, shape: tuple[int, ...], count: int, t: float
) -> Iterator[Tensor]:
    """Yield ``count`` directions for each of the B samples, as float32 (B, up to d, *shape): in a
    block of d, the number of elements, they are orthogonal and of length sqrt(d).

    ``u_i = sqrt(d) q_i`` with the columns q of a random orthogonal matrix, so ``E u u^T = I``. The
    decomposition is made for each sample alone: its bits do not depend on the batch.
    """
    d = math.prod(shape)
    for k, first in enumerate(range(0, count, d)):
        size = min(d, count - first)
        z = normals_of_keys(keys, (size, d), stream=GUIDANCE_STREAM, draw=_draw(t, k))
        made = [_orthonormal(matrix) for matrix in z.transpose(1, 2)]
        yield math.sqrt(d) * torch.stack(made).transpose(1, 2).reshape(-1, size, *shape)


def _orthonormal(z: Tensor) -> Tensor:
    """Orthonormal columns (d, n) of a normal matrix, uniform over all such."""
    q: Tensor
    q, r = torch.linalg.qr(z)
    return q * torch.where(torch.diagonal(r) < 0.0, -1.0, 1.0)


def _draw(t: float, block: int) -> int:
    """The draw number of a block."""
    digest = blake2b(pack("<dq", t + 0.0, block), digest_size=4, person=b"smoothing")
    return int.from_bytes(digest.digest(), "little")

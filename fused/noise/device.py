"""Normals by triton's kernel on a CUDA device: one launch, where torch operations need dozens and
int64 memory for the words."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..devices import Tile, current, signed, tile, trusted
from .fills import fill_torch
from .native import KERNEL

#: how far a normal may be from that of the torch form
_TOLERANCE = 1e-6


def fill_by_triton(
    flat: Tensor, keys: Tensor, stream: int, draw: int, particles: Tensor | None = None
) -> bool:
    """Overwrite ``flat`` (n, size), float32 and contiguous, as ``fill_torch`` does, within 1e-6;
    False, with nothing done, where the kernel is not used."""
    if (flat.is_cpu and KERNEL.device is None) or not KERNEL.by_triton(flat.device):
        return False
    n, size = flat.shape
    own, placed = tile(n, size), particles is not None
    variant = ("fill", own, placed, size % 16 == 0, size == 1, n == 1)
    if not trusted(flat.device, variant, lambda: _check(own, n, size, placed, flat.device)):
        KERNEL.by_triton(flat.device)
        return False
    _launch(own, flat, keys, stream, draw, particles)
    return True


def _launch(
    own: Tile, flat: Tensor, keys: Tensor, stream: int, draw: int, particles: Tensor | None
) -> None:
    from .philox_kernel import fill

    kernel: Any = fill
    n, size = flat.shape
    with current(flat.device):
        kernel[(own.programs(n, size),)](
            flat,
            keys.contiguous(),
            keys if particles is None else particles.contiguous(),
            signed(stream),
            signed(draw),
            n,
            size,
            own.rows,
            own.columns,
            particles is not None,
            num_warps=own.warps,
            enable_fp_fusion=False,
        )


def _check(own: Tile, n: int, size: int, particles: bool, device: torch.device) -> str | None:
    """What is wrong with the kernel of the tile for (n, size) normals; None where nothing is."""
    rows = 1 if n == 1 else own.rows + 1
    columns = size if size <= own.columns else 2 * own.columns + size % 16
    keys = torch.tensor([[7, 0xFFFFFFFF], [0, 0x89ABCDEF]], dtype=torch.int64, device=device)
    keys = keys.repeat(1, rows)[:, :rows].contiguous()
    last = torch.arange(rows, device=device) * 0x5555555 % (1 << 32) if particles else None
    found, wanted = (torch.zeros((rows, columns), device=device) for _ in range(2))
    _launch(own, found, keys, 3, 0x80000001, last)
    fill_torch(wanted, keys, 3, 0x80000001, last)
    worst = float((found - wanted).abs().max())
    if worst <= _TOLERANCE:
        return None
    return f"normals of the kernel differ by {worst} from those of torch"

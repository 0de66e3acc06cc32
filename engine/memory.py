"""Checks that a state fits in the device's memory before it is allocated."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import torch

from ..checks import ArgumentError


def check_room(
    shape: Sequence[int],
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    *,
    copies: int = 1,
) -> None:
    """Raise ArgumentError if ``copies`` states (batch, *shape) are larger than the memory of the
    device. Devices that do not report their memory are not checked."""
    kind = dtype or torch.float32
    wanted, there = (
        copies * math.prod(shape) * kind.itemsize,
        _memory(torch.device(device or torch.get_default_device())),
    )
    if there is not None and wanted > there:
        raise ArgumentError(
            f"{shape[0]} samples of shape {tuple(shape[1:])} in {kind}"
            f"{f', {copies} states of each,' if copies > 1 else ''} take "
            f"{wanted / 2**30:.3g} GiB, but the device has {there / 2**30:.3g} GiB; "
            "draw them in smaller batches (the same seeds give the same samples)"
        )


def _memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type != "cpu" or not hasattr(os, "sysconf"):
        return None
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None

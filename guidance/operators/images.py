"""The size of images (B, ..., H, W), the last two axes of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from ...checks import ArgumentError, shown, tensor


def image_size(x: Tensor, operator: object) -> tuple[int, int]:
    """(H, W) of a batch of images. Raises ArgumentError for samples with fewer than two axes."""
    if x.ndim < 3:
        raise ArgumentError(
            f"{operator!r} takes images (batch, ..., height, width); the samples have shape "
            f"{tuple(x.shape[1:])}"
        )
    return x.shape[-2], x.shape[-1]


def plane(name: str, value: Tensor) -> Tensor:
    """A matrix of finite numbers, in float64 on the CPU. Raises ArgumentError."""
    found = tensor(name, value)
    if found.ndim != 2 or not found.numel() or not bool(torch.isfinite(found).all()):
        raise ArgumentError(
            f"{name} has shape {shown(tuple(found.shape))}: must be (height, width), of finite "
            "numbers"
        )
    return found.detach().cpu().to(torch.float64)

"""Floating point dtypes: checked before anything is converted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import ArgumentError
from .messages import shown

if TYPE_CHECKING:
    import torch


def floating_dtype(value: Any, error: type[ArgumentError] = ArgumentError) -> torch.dtype | None:
    """``value`` if it is None or a floating point dtype of torch; raises ``error`` otherwise."""
    import torch

    if value is None or (isinstance(value, torch.dtype) and value.is_floating_point):
        return value
    name = value.removeprefix("torch.") if isinstance(value, str) else ""
    meant = getattr(torch, name, None) if name.isidentifier() else None
    if isinstance(meant, torch.dtype) and meant.is_floating_point:
        raise error(f"dtype={shown(value)}: must be a dtype of torch, not its name: dtype={meant}")
    raise error(
        f"dtype={shown(value)}: must be a floating point dtype, such as torch.float32 or "
        "torch.bfloat16"
    )

"""Atomic writes of safetensors files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .atomic import write

if TYPE_CHECKING:
    from torch import Tensor


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write ``tensors`` (moved to the CPU, made contiguous) and ``metadata`` to the safetensors
    file ``path``."""
    from safetensors.torch import save

    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    write(path, save(plain, metadata=None if metadata is None else dict(metadata)))

"""Safetensors files: atomic writes, and reading with errors that name the setting."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..checks import ArgumentError
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


def read_tensors(path: str | Path, setting: str) -> dict[str, Tensor]:
    """The tensors of the safetensors file ``path`` by name, at least one. Raises ArgumentError,
    which begins with ``setting=``."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArgumentError(f"{setting}={path}: no readable safetensors file: {error}") from error
    if not found:
        raise ArgumentError(f"{setting}={path}: the file holds no tensor")
    return dict(found)

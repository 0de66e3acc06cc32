"""Inverse schedulers of diffusers in jobs: read from an object, a config, a file or a folder, and
run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import read_json

if TYPE_CHECKING:
    from torch import Tensor

    from ..engine.inversion import InversionInfo
    from ..models.base import BaseDenoiser

#: what diffusers calls the file in a folder
FILE = "scheduler_config.json"


def config_of(scheduler: Any) -> dict[str, Any]:
    """The config of a scheduler, given as an object, as a config, or as the JSON file or folder
    that holds it. The class is under ``_class_name``; other keys that begin with ``_`` are left
    out."""
    from ..interop.diffusers.origin import source

    if isinstance(scheduler, (str, Path)):
        path = Path(scheduler)
        scheduler = read_json(path / FILE if path.is_dir() else path)
    found = source(scheduler)
    return {k: v for k, v in found.items() if not k.startswith("_") or k == "_class_name"}


def check_scheduler(config: Mapping[str, Any], denoiser: BaseDenoiser, steps: int | None) -> None:
    """Raise what ``invert_by_scheduler`` would raise, without a network call."""
    from ..interop.diffusers.inversion import check_inverse

    check_inverse(config, denoiser, steps)


def invert_by_scheduler(
    config: Mapping[str, Any], denoiser: BaseDenoiser, x0: Tensor, steps: int | None, cond: Any
) -> tuple[Tensor, InversionInfo]:
    """The noise of ``x0`` (B, *shape), and the measured reconstruction."""
    from ..interop.diffusers.inversion import invert

    assert steps is not None
    return invert(config, denoiser, x0, steps, cond=cond, info=True)

"""The device of a job: checked before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import checks
from ..checks import ArgumentError
from .processes import local_rank

if TYPE_CHECKING:
    from ..models.denoiser import Denoiser


def device_named(name: str) -> Any:
    """The device called ``name``; ``auto`` is this process's GPU, or the CPU if there is none.
    Raises ArgumentError for a device that this machine does not have."""
    import torch

    if name == "auto":
        rank, here = local_rank(), torch.cuda.device_count() if torch.cuda.is_available() else 0
        return torch.device("cuda", rank % here) if here else torch.device("cpu")
    found = checks.device(name, "device=")
    if found.type == "meta" or (found.type == "cpu" and found.index not in (None, 0)):
        raise ArgumentError(
            f"device={name!r} cannot be used here; allowed: auto, "
            f"{', '.join(checks.present_devices())}"
        )
    return found


def move(denoiser: Denoiser, device: Any) -> None:
    """The denoiser's network, if it has one, to the device."""
    from ..models.wrapper import complete

    network = complete(denoiser).network
    if hasattr(network, "to"):
        network.to(device)

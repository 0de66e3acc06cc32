"""Where networks run: ``--device``, checked before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError, unknown
from .processes import local_rank

if TYPE_CHECKING:
    from ..models.denoiser import Denoiser


def device_named(name: str) -> Any:
    """The device of ``--device``; ``auto`` is this process's GPU where there is one. ArgumentError for one that is not on this machine."""
    import torch

    if name == "auto":
        rank, here = local_rank(), torch.cuda.device_count() if torch.cuda.is_available() else 0
        return torch.device("cuda", rank % here) if here else torch.device("cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, ValueError, TypeError):
        raise ArgumentError(f"--device {name!r}: {unknown('device', name, present())}") from None
    try:
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
        if device.type == "cpu" and device.index not in (None, 0):
            raise RuntimeError("there is one CPU")
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError, ValueError) as error:
        why = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise ArgumentError(f"--device {name!r} cannot be used here ({why}); allowed: {', '.join(present())}") from None
    return device


def present() -> tuple[str, ...]:
    """The devices of this machine."""
    import torch

    cuda = [f"cuda:{k}" for k in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ("auto", "cpu", *cuda, *mps)


def move(denoiser: Denoiser, device: Any) -> None:
    """The denoiser's network, if it has one, to the device."""
    network = getattr(denoiser, "network", None)
    if network is not None and hasattr(network, "to"):
        network.to(device)

"""Check of a device name before anything is moved there."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from .errors import ArgumentError
from .messages import LONGEST, shown

if TYPE_CHECKING:
    import torch


@overload
def device(value: None, what: str = ...) -> None: ...
@overload
def device(value: torch.device | str | int, what: str = ...) -> torch.device: ...
def device(value: torch.device | str | int | None, what: str = "device=") -> torch.device | None:
    """``value`` as a ``torch.device`` that this machine and this build of torch have; None stays
    None. ``what`` stands before the value in messages.

    Raises ArgumentError for an unknown name, an accelerator that is not present, and an index that
    is too large.
    """
    if value is None:
        return None
    import torch

    try:
        found = torch.device(value)
        torch.zeros(1, device=found)
    except (
        RuntimeError,
        AssertionError,
        NotImplementedError,
        ImportError,
        TypeError,
        ValueError,
    ) as error:
        reason = (
            str(error).strip().partition("\n")[0].partition(". ")[0].partition(" device type at")[0]
            or type(error).__name__
        )
        reason = reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}..."
        raise ArgumentError(
            f"{what}{shown(value)} cannot be used: {reason}; allowed: "
            f"{', '.join(present_devices())}"
        ) from None
    return found


def present_devices() -> list[str]:
    """Names of the devices of this machine."""
    import torch

    cuda = (
        [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]

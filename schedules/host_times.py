"""Times of network calls as tensors on a device, with their numbers kept on the host.

Reading a number from a tensor on an accelerator waits for the device. The loop and the drivers know
the numbers, so they attach them to the tensors that they make; ``known_times`` returns them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: attribute of a tensor of times on an accelerator: its numbers, one or one per row
_NUMBERS = "fewstep_host_times"


def attach_times(t: Tensor, numbers: Sequence[float]) -> Tensor:
    """Attach ``numbers`` (one, or one per element) to ``t`` and return it. A tensor on the CPU is
    returned unchanged: reading it costs no wait."""
    if t.device.type != "cpu":
        setattr(t, _NUMBERS, tuple(numbers))
    return t


def known_times(t: Tensor) -> list[float] | None:
    """Return the numbers of ``t`` without waiting for a device: those attached, or those of a
    tensor on the CPU; else None."""
    found: tuple[float, ...] | None = getattr(t, _NUMBERS, None)
    if found is not None:
        return list(found)
    return [float(v) for v in t.reshape(-1).tolist()] if t.device.type == "cpu" else None


def device_times(numbers: Sequence[float], device: torch.device) -> tuple[Tensor, ...]:
    """Return each of ``numbers`` as a 0-dim tensor on ``device`` with its number attached: one
    transfer for all, float64 (float32 on MPS). A CUDA graph that is being recorded holds no
    transfer from the host, but fills."""
    precision = torch.float32 if device.type == "mps" else torch.float64
    recording = device.type == "cuda" and torch.cuda.is_current_stream_capturing()
    made = (_filled if recording else _sent)(numbers, precision, device)
    if device.type == "cpu":
        return made
    return tuple(attach_times(t, (number,)) for t, number in zip(made, numbers, strict=True))


def _sent(
    numbers: Sequence[float], precision: torch.dtype, device: torch.device
) -> tuple[Tensor, ...]:
    return torch.tensor(numbers, dtype=precision).to(device).unbind(0)


def _filled(
    numbers: Sequence[float], precision: torch.dtype, device: torch.device
) -> tuple[Tensor, ...]:
    return tuple([torch.full((), n, dtype=precision, device=device) for n in numbers])

"""Finds the entry of ``timesteps`` that a caller's ``timestep`` is: by its address in memory, else
by its value. No device is waited for during a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentError, plain

#: float32's rounding, a few times over: what a number may be off that went through float32
SINGLE = 4.0 * torch.finfo(torch.float32).eps
#: where times run over more than this, an integer within 1 of a time is that time cut or rounded
WIDE = 50.0


class Times:
    """The list that a pipeline iterates over, ``tensor``, its values on the host, and the entries
    that begin a step."""

    def __init__(self, tensor: Tensor, labels: Sequence[float], starts: Sequence[int]) -> None:
        self.tensor, self.labels, self.starts = tensor, tuple(labels), frozenset(starts)
        self.plain = (
            tensor.is_contiguous() and tensor.storage_offset() == 0 and tensor._base is None
        )
        self.whole = not tensor.dtype.is_floating_point
        self.wide = max(self.labels) - min(0.0, *self.labels) > WIDE

    def place(self, timestep: Any) -> int | None:
        """The entry that ``timestep`` is a view of (expanded to a batch or not), None where it is
        none."""
        tensor = self.tensor
        if self.plain and getattr(timestep, "_base", None) is tensor and timestep.ndim == 0:
            return timestep.storage_offset()  # type: ignore[no-any-return]
        if (
            not isinstance(timestep, Tensor)
            or timestep.dtype is not tensor.dtype
            or timestep.device != tensor.device
        ):
            return None
        if timestep.ndim and any(
            n > 1 and stride for n, stride in zip(timestep.shape, timestep.stride(), strict=True)
        ):
            return None
        entry, rest = divmod(
            timestep.data_ptr() - tensor.data_ptr(), tensor.element_size() * (tensor.stride(0) or 1)
        )
        return entry if rest == 0 and 0 <= entry < len(self.labels) else None

    def near(self, value: float, dtype: torch.dtype | None, k: int) -> bool:
        """Whether entry ``k``, rounded to ``dtype`` (None: a Python integer), is ``value``."""
        label = self.labels[k]
        if value == label:
            return True
        if dtype is None or not dtype.is_floating_point:
            return not self.whole and self.wide and abs(value - label) < 1.0
        return abs(value - label) <= max(SINGLE, torch.finfo(dtype).eps) * abs(label)

    def entries(self, timestep: Any, due: int | None = None) -> list[int]:
        """The entries whose time is ``timestep``, ``due`` alone where it is one of them. Waits for
        a device that ``timestep`` is on.

        ArgumentError where the samples of a batch have different times.
        """
        place = self.place(timestep)
        if place is not None:
            found = [k for k, label in enumerate(self.labels) if label == self.labels[place]]
        else:
            value, dtype = _value(timestep)
            if due is not None and self.near(value, dtype, due):
                return [due]
            found = [k for k, label in enumerate(self.labels) if label == value]
            found = found or [k for k in range(len(self.labels)) if self.near(value, dtype, k)]
        return [due] if due in found else found

    def begin(self, timestep: Any) -> int:
        """The entry that a run at ``timestep`` begins with: of equal times the first that begins a
        step. ArgumentError without one."""
        place = self.place(timestep)
        if place is not None:
            return place
        found = self.entries(timestep)
        if not found:
            raise ArgumentError(
                f"timestep {told(timestep)} is none of this run's: {list(self.labels)}; "
                "iterate over scheduler.timesteps"
            )
        return next((k for k in found if k in self.starts), found[0])

    def far(self, timestep: Any) -> bool:
        """Whether the value of ``timestep`` is on a device that would have to be waited for, and
        that can be asked to check it."""
        return (
            isinstance(timestep, Tensor)
            and timestep.device.type == "cuda"
            and self.place(timestep) is None
        )

    def demand(self, timestep: Tensor, due: int) -> None:
        """Have the device of ``timestep`` stop where that is not entry ``due``: RuntimeError,
        later, and nothing is waited for."""
        label, off = self.labels[due], tolerance(timestep.dtype)
        cut = self.wide and not self.whole and not timestep.dtype.is_floating_point
        near = (timestep.to(torch.float32) - label).abs() <= (1.0 if cut else off * abs(label))
        torch._assert_async(near.all(), WORDS)


#: what a device says, which knows no numbers
WORDS = (
    "timestep is not the one that is due: iterate over scheduler.timesteps, and call "
    "set_timesteps or set_begin_index to begin elsewhere"
)


def tolerance(dtype: torch.dtype) -> float:
    """The relative error of a time that went through ``dtype``; for integers of one that went
    through float32."""
    return max(SINGLE, torch.finfo(dtype).eps) if dtype.is_floating_point else SINGLE


def told(timestep: Any) -> str:
    """``timestep`` for a message."""
    return f"{_value(timestep)[0]:.6g}"


def _value(timestep: Any) -> tuple[float, torch.dtype | None]:
    """The one number that ``timestep`` holds, and the type that it was rounded to. ArgumentError
    where it holds several."""
    if not isinstance(timestep, Tensor):
        number = plain(timestep)
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            return float(number), None if isinstance(number, int) else torch.float64
        try:
            timestep = torch.as_tensor(timestep)
        except (TypeError, ValueError, RuntimeError):
            raise ArgumentError(
                f"timestep={timestep!r} must be an entry of scheduler.timesteps"
            ) from None
    values = timestep.flatten().tolist()
    if not values or any(v != values[0] for v in values):
        raise ArgumentError(
            f"timestep has the values {values}: one step takes one time for all samples; "
            "step each with a scheduler of its own"
        )
    return float(values[0]), timestep.dtype

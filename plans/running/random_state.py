"""The random state and the autocast setting of a network call, kept so that the call can be made
again with the same result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class CallState:
    """State of torch's random generators (CPU, and the device's) and of autocast before a call."""

    cpu: torch.Tensor
    device: torch.device
    own: torch.Tensor | None
    autocast: tuple[bool, torch.dtype]

    @classmethod
    def now(cls, device: torch.device, before: CallState | None = None) -> CallState:
        """The present state, for a network on ``device``; it shares the memory of ``before`` where
        nothing was drawn since."""
        module = _module(device)
        cpu, own = torch.get_rng_state(), None if module is None else module.get_rng_state(device)
        if before is not None:
            cpu = before.cpu if torch.equal(cpu, before.cpu) else cpu
            if own is not None and before.own is not None and torch.equal(own, before.own):
                own = before.own
        return cls(
            cpu,
            device,
            own,
            (
                torch.is_autocast_enabled(device.type),
                torch.get_autocast_dtype(device.type),
            ),
        )

    @contextmanager
    def again(self) -> Iterator[None]:
        """Restore the state for the time of the block; the present one afterwards."""
        before, module = CallState.now(self.device), _module(self.device)
        enabled, dtype = self.autocast
        try:
            self._set(module)
            with torch.autocast(self.device.type, dtype=dtype, enabled=enabled):
                yield
        finally:
            before._set(module)

    def _set(self, module: Any) -> None:
        torch.set_rng_state(self.cpu)
        if self.own is not None:
            module.set_rng_state(self.own, self.device)


def _module(device: torch.device) -> Any:
    """torch's module of an accelerator with random states; None for the CPU."""
    if device.type == "cpu":
        return None
    module = getattr(torch, device.type, None)
    return module if hasattr(module, "get_rng_state") else None

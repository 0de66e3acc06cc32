"""Triton on a device: whether it is at hand, and the check of a kernel before it is used.

No result comes from a kernel that was not compared with torch on the same device in the same
process: at the first use of every variant that triton compiles, small tensors go through it. Where
they differ, or where triton raises an error, the device uses torch operations from there on, and
one warning says why. While a CUDA graph is recorded nothing can be compared, so variants that were
not used before run as torch operations there.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..checks import present_devices

#: elements of a program of a kernel, and the fewest where a tensor is small
_BLOCK, _LEAST = 1024, 128
#: programs that a small tensor is shared out to
_PROGRAMS = 256

_log = logging.getLogger("fewstep.fused")
_verified: set[Hashable] = set()
_failed: dict[torch.device, str] = {}


@lru_cache(maxsize=1)
def installed() -> bool:
    """Whether triton is installed; where it is not, a message of level debug says so once."""
    if find_spec("triton") is not None:
        return True
    _log.debug("triton is not installed: steps and noise on CUDA are computed by torch operations")
    return False


def interpreted() -> bool:
    """Whether triton's kernels run in its interpreter, on the CPU: ``TRITON_INTERPRET=1``, set
    before triton is imported."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


def cuda_present() -> bool:
    """Whether this machine has a CUDA device."""
    return any(name.startswith("cuda") for name in present_devices())


def missing() -> str | None:
    """Why no device can run triton here; None where one can."""
    if not installed():
        return "triton is not installed; pip install triton, or use 'torch'"
    if not (interpreted() or cuda_present()):
        return (
            "there is no CUDA device; allowed here are the backends of the CPU (triton's "
            "interpreter runs on it where TRITON_INTERPRET=1 is set from the start)"
        )
    return None


def triton_on(device: torch.device) -> bool:
    """Whether triton runs on ``device``, as far as can be told without trying."""
    return installed() and (device.type == "cuda" or (device.type == "cpu" and interpreted()))


def failure(device: torch.device) -> str | None:
    """Why triton's kernels are not used on ``device``; None where none has failed."""
    return _failed.get(device) if _failed else None


def trusted(device: torch.device, variant: Hashable, check: Callable[[], str | None]) -> bool:
    """Whether the kernel ``variant`` may be used on ``device``: ``check``, which is called once,
    runs it on small tensors and returns None, or what is wrong."""
    if (device, variant) in _verified:
        return True
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return False
    try:
        with torch.no_grad():
            reason = check()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    if reason is None:
        _verified.add((device, variant))
        return True
    _failed[device] = reason
    warnings.warn(
        f"triton's kernels are not used on {device}, torch operations compute instead: {reason}",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


def forget() -> None:
    """Forget which variants were checked and which devices failed."""
    _verified.clear()
    _failed.clear()


@contextmanager
def current(device: torch.device) -> Iterator[None]:
    """Triton launches on the current device: make ``device`` it. In the interpreter numpy computes:
    it says nothing of infinities and NaNs."""
    if device.type != "cuda":
        with np.errstate(all="ignore"):
            yield
    elif device.index == torch.cuda.current_device():
        yield
    else:
        with torch.cuda.device(device):
            yield


class Tile(NamedTuple):
    """What a program computes, rows and columns, both powers of 2, and its warps."""

    rows: int
    columns: int
    warps: int

    def programs(self, rows: int, size: int) -> int:
        """How many programs (rows, size) elements take."""
        return -(-rows // self.rows) * -(-size // self.columns)


@lru_cache(maxsize=1024)
def tile(rows: int, size: int) -> Tile:
    """The tile for (rows, size) elements: whole rows where they are short. The result does not
    depend on it."""
    block = _BLOCK
    if not interpreted():
        share = -(-rows * size // _PROGRAMS)
        block = min(_BLOCK, max(_LEAST, 1 << max(0, share - 1).bit_length()))
    columns = min(block, max(4, 1 << max(0, size - 1).bit_length()))
    return Tile(block // columns, columns, max(1, block // 256))


def signed(word: int) -> int:
    """The 32-bit word as the signed integer with its bits: kernels take it as one type."""
    return word - (1 << 32) if word >= 1 << 31 else word


def aligned(*tensors: Tensor) -> bool:
    """Whether all begin at addresses divisible by 16, for which triton compiles a variant."""
    return not any(t.data_ptr() % 16 for t in tensors)

"""The linear step by a compiled kernel: one pass over memory, on the CPU.

``native.c`` is built when the package is installed, if there is a C compiler; without one the
torch form runs, with the same bits on processors that fuse multiply and add.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..kernels import Kernel, share

KERNEL = Kernel("linear", __package__, "torch")
#: names of the ways to compute a step on the CPU
BACKENDS = KERNEL.backends
#: dtype -> its number in native.c
_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float64: 3}
#: threads share the elements where each gets as many elements times terms
_LEAST = 1 << 19
#: most tensors of one step
_MOST = 64


def pack(rows: Sequence[Sequence[tuple[int, float]]]) -> bytes:
    """The (input, number) pairs of each output, as native.c reads them."""
    terms = [term for row in rows for term in ((-1, 0.0), *row)]
    return b"".join(struct.pack("=iid", i, 0, c) for i, c in terms)


def native_step(
    packed: bytes, inputs: Sequence[Any], outputs: Sequence[Tensor], dtype: torch.dtype
) -> bool:
    """Overwrite ``outputs``, all of ``dtype``; False, with nothing done, where the kernel is not
    used or does not take the tensors: another device, a layout that is not contiguous, a subclass,
    an input wider than the outputs.

    No gradient is recorded. Outputs may not share memory with another tensor.
    """
    if not (KERNEL.used and outputs):
        return False
    if len(inputs) + len(outputs) > _MOST or (dtype == torch.float16 and not KERNEL.code.HALF):
        return False
    arguments = _arguments(inputs, outputs, dtype)
    if arguments is None:
        return False
    count, size = len(inputs), outputs[0].numel()
    code = KERNEL.code

    def run(begin: int, end: int) -> None:
        code.step(packed, begin, end, count, *arguments)

    share(run, size, _LEAST * 16 // max(1, len(packed)))
    torch.autograd.graph.increment_version(outputs)
    return True


def _arguments(
    inputs: Sequence[Any], outputs: Sequence[Tensor], dtype: torch.dtype
) -> list[int] | None:
    """Address and type of every tensor; None where the kernel does not take one."""
    found: list[int] = []
    try:
        for t in (*inputs, *outputs):
            kind = _TYPES.get(t.dtype)
            if kind is None or type(t) is not Tensor or not (t.is_cpu and t.is_contiguous()):
                return None
            if (kind == 3) > (dtype == torch.float64) or (kind == 2 and not KERNEL.code.HALF):
                return None
            if t.is_neg():
                return None
            found += (t.data_ptr(), kind)
    except RuntimeError:  # inside a transform of torch.func a tensor has no memory of its own
        return None
    return found

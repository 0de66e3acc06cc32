"""Which backend computes a linear step: triton's kernel on CUDA, the compiled kernel on the CPU,
torch operations where there is none. All callers (loop, scheduler, gradients) come through here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...checks import device as checked_device
from ..devices import cuda_present, failure, installed
from ..noise.seeded import Drawn
from .device import Input, device_step
from .native import KERNEL, native_step


def linear_backend(name: str | None = None, *, device: torch.device | str | None = None) -> Any:
    """Return the name of the backend of linear steps on ``device`` (default the CPU): ``"native"``,
    ``"torch"`` or ``"triton"``. With ``name``, use that one from here on; the result is then a
    context manager that restores the former choice: ``with linear_backend("torch"): ...``.

    ``triton`` is the backend of CUDA, and of the CPU in triton's interpreter; without it the CPU
    goes on as it does by default. ``native`` is one of the CPU. ``torch`` is for both. Nothing
    chosen: native where it was built, and triton where it is installed and passes its check. The
    environment variable ``FEWSTEP_LINEAR`` chooses from the start.

    Raises ArgumentError for another name, for ``native`` where the kernel was not built, and for
    ``triton`` where it is not installed or there is no CUDA device.
    """
    if name is not None:
        return KERNEL.choose(name)
    return KERNEL.on(torch.device("cpu") if device is None else checked_device(device))


def backends_described() -> str:
    """What computes the steps on the CPU and on CUDA, two lines for ``Plan.explain``."""
    cpu = {
        "native": "native (compiled kernel, one pass)",
        "torch": "torch (operations in place)"
        + ("" if KERNEL.code else "; the compiled kernel was not built"),
        "triton": "triton (interpreted)",
    }[KERNEL.on(torch.device("cpu"))]
    return f"step on cpu: {cpu}\nstep on cuda: {_on_cuda()}"


def _on_cuda() -> str:
    chosen = "chosen" if KERNEL.device is not None else "automatic"
    if KERNEL.device == "torch":
        return "torch (operations; chosen)"
    if not installed():
        return "torch (operations; triton is not installed)"
    if not cuda_present():
        return f"triton ({chosen}, one launch a step); there is no CUDA device here"
    device = torch.device("cuda", torch.cuda.current_device())
    if (reason := failure(device)) is not None:
        return f"torch (operations; triton failed its check: {reason})"
    return f"triton ({chosen}, one launch a step; compared with torch at its first use)"


def kernel_step(
    packed: bytes,
    count: int,
    inputs: Sequence[Input],
    outputs: Sequence[Tensor] | None,
    dtype: torch.dtype,
) -> Sequence[Tensor] | None:
    """The outputs of the ``count`` rows that ``native.pack`` packed, by a kernel: new tensors of
    ``dtype``, or ``outputs``; None where no kernel computes them. No gradient is recorded."""
    if not inputs:
        return None
    first: Any = inputs[0]
    made: list[Tensor] | Sequence[Tensor] | None = outputs
    if (first.is_cpu and KERNEL.device is None) or not KERNEL.by_triton(first.device):
        if KERNEL.backend != "native" or not first.is_cpu:
            return None
        if made is None:
            made = [torch.empty_like(first, dtype=dtype) for _ in range(count)]
        return made if native_step(packed, inputs, made, dtype) else None
    if made is None:
        like = next((x for x in inputs if isinstance(x, Tensor)), None)
        if like is None:
            like = torch.empty(first.shape, device=first.device)
        made = [torch.empty_like(like, dtype=dtype) for _ in range(count)]
    if device_step(packed, inputs, made):
        return made
    KERNEL.by_triton(first.device)  # an error where triton was asked for
    return None


def drawn(inputs: Sequence[Input]) -> Sequence[Tensor]:
    """``inputs`` with normals that are not drawn yet drawn."""
    return [x.tensor() if isinstance(x, Drawn) else x for x in inputs]

"""The linear step by whichever backend computes it: ``linear_step`` checks what it is given,
``linear_new`` is the prepared path of the loop, the scheduler and the gradients."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from .device import Input, device_rows
from .dispatch import drawn, kernel_step
from .eager import Rows, Terms, numbered, torch_new, torch_step
from .native import KERNEL
from .step_checks import check_clamp, check_step


def linear_step(
    outputs: Sequence[Tensor],
    inputs: Sequence[Input],
    coefficients: Rows,
    *,
    clamp: Sequence[tuple[float, float] | None] | None = None,
) -> None:
    """Overwrite ``outputs[j]`` with ``sum_i coefficients[j][i] * inputs[i]``; see ``eager``
    for the arithmetic.

    All tensors share one shape ``(B, ...)`` and one device; layouts and floating point dtypes may
    differ. An input may be normals that are not drawn yet (``SeededNoise.later``). ``clamp`` gives
    (low, high) or None for each output: its sum is clamped before it is rounded, and a NaN stays
    one. Outputs may not share memory with inputs or with each other. No gradient is recorded.
    When an output and its inputs are all float32, or all float64, nothing is allocated. Per-sample
    sequences that were not made ready by ``prepare`` are sent to the device here, at each call.

    Triton's kernel computes it on CUDA (``linear_backend``), within
    ``(K + 1) 2^-24 sum_i |c_i x_i|`` of these operations and one unit in the last place of an
    output of 16 bits; torch operations do elsewhere.

    Raises ValueError when counts, shapes, devices or batch sizes disagree or memory is shared,
    TypeError for tensors that are not dense and floating point and for prepared coefficients of a
    dtype other than the accumulator's.
    """
    check_step(outputs, inputs, coefficients)
    bounds = check_clamp(clamp, len(outputs))
    with torch.no_grad() if torch.is_grad_enabled() else nullcontext():
        rows = [
            numbered(inputs, row, out.dtype) for out, row in zip(outputs, coefficients, strict=True)
        ]
        if outputs and KERNEL.by_triton(outputs[0].device):
            if device_rows(rows, inputs, outputs, bounds):
                return
            KERNEL.by_triton(outputs[0].device)  # an error where triton was asked for
        torch_step(outputs, drawn(inputs), rows, bounds)


def linear_new(
    inputs: Sequence[Input],
    rows: Sequence[Terms],
    firsts: Sequence[Tensor],
    dtype: torch.dtype,
    outputs: Sequence[Tensor] | None = None,
    packed: bytes = b"",
) -> Sequence[Tensor]:
    """:func:`linear_step` into new tensors of ``dtype``, or into ``outputs`` of that dtype, for
    launches checked beforehand: ``rows[j]`` lists (input, number other than 0).

    ``firsts[j]`` is row j's first number as a host tensor of no axes in ``dtype`` (a float would
    become one at each call). ``packed`` are the rows for a kernel (``native.pack``), which runs
    where it takes the tensors; on CUDA it is differentiable, on the CPU torch operations run where
    a gradient is recorded. Nothing is checked here: inputs share shape and device. The result is
    that of :func:`linear_step`.
    """
    if packed and (outputs or not torch.is_grad_enabled()):
        made = kernel_step(packed, len(rows), inputs, outputs, dtype)
        if made is not None:
            return made
    given: Any = inputs
    if inputs and (KERNEL.device == "triton" or not inputs[0].is_cpu):
        given = drawn(inputs)
        if packed and outputs is None and KERNEL.by_triton(given[0].device):
            from .operator import differentiable

            return differentiable(given, rows, dtype)
    return torch_new(given, rows, firsts, dtype, outputs)

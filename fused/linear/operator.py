"""The linear step as an operator of torch, ``fewstep::linear_step``, with rules for fake tensors,
gradients and vmap.

    linear_step(inputs, places, numbers, counts, dtype) -> outputs

``counts[j]`` is the number of terms of output j; the terms of all outputs in turn are
``numbers[t] * inputs[places[t]]``. Outputs are new tensors of ``dtype`` laid out like
``inputs[0]``. The gradient is a linear step with the transposed coefficients, so gradients of any
order are launches of the same kernel.

Gradients through a run on CUDA come through here. A run under ``torch.compile`` does not: there the
step is an expression of torch, which the compiler fuses with what the network does around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .dispatch import kernel_step
from .eager import Terms, torch_new
from .native import pack


@torch.library.custom_op("fewstep::linear_step", mutates_args=())
def linear_operator(
    inputs: Sequence[Tensor],
    places: Sequence[int],
    numbers: Sequence[float],
    counts: Sequence[int],
    dtype: torch.dtype,
) -> list[Tensor]:
    """The outputs; see the module."""
    rows = _rows(places, numbers, counts)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    firsts = [torch.tensor(row[0][1] if row else 0.0, dtype=wide) for row in rows]
    outputs = [torch.empty_like(inputs[0], dtype=dtype) for _ in rows]
    with torch.no_grad():
        if kernel_step(pack(rows), len(rows), inputs, outputs, dtype) is None:
            torch_new(inputs, rows, firsts, dtype, outputs)
    return outputs


@linear_operator.register_fake
def _(
    inputs: Sequence[Tensor],
    places: Sequence[int],
    numbers: Sequence[float],
    counts: Sequence[int],
    dtype: torch.dtype,
) -> list[Tensor]:
    return [torch.empty_like(inputs[0], dtype=dtype) for _ in counts]


def differentiable(
    inputs: Sequence[Tensor], rows: Sequence[Terms], dtype: torch.dtype
) -> list[Tensor]:
    """``linear_new`` through the operator."""
    places = [i for row in rows for i, _ in row]
    numbers = [c for row in rows for _, c in row]
    made: list[Tensor] = linear_operator(
        list(inputs), places, numbers, [len(row) for row in rows], dtype
    )
    return made


def _rows(
    places: Sequence[int], numbers: Sequence[float], counts: Sequence[int]
) -> list[list[tuple[int, float]]]:
    terms = iter(zip(places, numbers, strict=True))
    return [[next(terms) for _ in range(count)] for count in counts]


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    given, places, numbers, counts, _ = inputs
    ctx.rows = _rows(places, numbers, counts)
    ctx.like = [(x.dtype, x.shape) for x in given]


def _transposed(ctx: Any, grads: Sequence[Tensor | None]) -> Any:
    """The gradient of each input, ``sum_j c_ji grads[j]``."""
    given = [(j, g) for j, g in enumerate(grads) if g is not None]
    found: list[Tensor | None] = [None] * len(ctx.like)
    for dtype in {dtype for dtype, _ in ctx.like}:
        own = [i for i, (other, _) in enumerate(ctx.like) if other == dtype]
        columns = [
            [(k, c) for k, (j, _) in enumerate(given) for i, c in ctx.rows[j] if i == place]
            for place in own
        ]
        if given:
            made = differentiable([g for _, g in given], columns, dtype)
            for i, g in zip(own, made, strict=True):
                found[i] = g
    return found, None, None, None, None


linear_operator.register_autograd(_transposed, setup_context=_keep)


@linear_operator.register_vmap
def _(
    info: Any,
    in_dims: Any,
    inputs: Sequence[Tensor],
    places: Sequence[int],
    numbers: Sequence[float],
    counts: Sequence[int],
    dtype: torch.dtype,
) -> Any:
    moved = [
        x.expand(info.batch_size, *x.shape) if d is None else x.movedim(d, 0)
        for x, d in zip(inputs, in_dims[0], strict=True)
    ]
    made = linear_operator(moved, places, numbers, counts, dtype)
    return made, [0] * len(made)

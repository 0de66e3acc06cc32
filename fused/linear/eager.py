"""Linear step in plain torch: every output is a linear combination of the inputs.

    outputs[j]  <-  sum_i  coefficients[j][i] * inputs[i]

A coefficient is a Python float, 0.0 (the input is then not read, whatever it holds), or one float
per sample, multiplied along the batch axis. One call computes all outputs of a launch, so that a
kernel can read each input once. This is the reference for such kernels.

Arithmetic. The accumulator is float64 when the output or an input with a coefficient other than 0
is float64, and float32 otherwise; inputs enter it exactly, coefficients are rounded to its dtype,
terms are added in the order of the inputs, and the sum is rounded to the output's dtype once. First
term: a product. Later terms: ``acc + c * x`` in one instruction (fused where the processor fuses),
the same for a float and for per-sample coefficients, so a sample's bits depend neither on the batch
around it nor on whether its plan was stacked with others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import TypeAlias

import torch
from torch import Tensor

from ...checks import ArgumentError, ArgumentTypeError, described, instance, integer, plain, shown
from .native import linear_backend, native_step

#: a number for the whole batch, one number per sample, or the latter made ready by :func:`prepare`
Coefficient: TypeAlias = float | Sequence[float] | Tensor
#: ``rows[j][i]`` multiplies input i in output j
Rows: TypeAlias = Sequence[Sequence[Coefficient]]

#: (input, number) pairs of one output
Terms: TypeAlias = Sequence[tuple[int, float]]

#: elements accumulated at a time on a CPU when dtypes differ: the fp32 block stays in cache
_BLOCK = 1 << 17


def accumulator_dtype(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """float64 if any of ``dtypes`` is, else float32."""
    dtypes = list(dtypes) if isinstance(dtypes, Iterable) else [dtypes]
    for dtype in dtypes:
        instance("dtypes", dtype, torch.dtype, "a list of torch.dtype")
    return torch.float64 if torch.float64 in dtypes else torch.float32


def prepare(
    coefficients: Rows,
    *,
    ndim: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[tuple[float | Tensor, ...], ...]:
    """Coefficients with every per-sample sequence as a ``(B, 1, ..., 1)`` tensor of ``ndim`` axes,
    to be called once before the loop.

    ``dtype`` is the dtype of the state; the coefficients are float64 if it is float64, else
    float32. All sequences
    of a launch go to the device in one copy. A sequence of zeros becomes 0.0. Raises ValueError
    when sequences differ in length.
    """
    _check_lists(("coefficients", coefficients))
    _check_lists(*(("a row of coefficients", row) for row in coefficients))
    integer("ndim", ndim, 1, 64)
    rows = tuple(tuple(_coefficient(c) for c in row) for row in coefficients)
    found = [c for row in rows for c in row if not isinstance(c, (float, Tensor)) and any(c)]
    if len({len(c) for c in found}) > 1:
        raise ArgumentError(
            f"per-sample coefficients of {sorted({len(c) for c in found})} samples in one "
            "launch; all must have the length of the batch"
        )
    wide = (
        torch.tensor(found, dtype=accumulator_dtype((dtype,))).to(device)
        if found
        else torch.empty(0)
    )
    ready = iter(wide.view(*wide.shape, *(1,) * (ndim - 1)))
    return tuple(
        tuple(c if isinstance(c, (float, Tensor)) else next(ready) if any(c) else 0.0 for c in row)
        for row in rows
    )


def _coefficient(c: Coefficient) -> Coefficient:
    """A float, a tensor, or one float a sample. Raises ArgumentTypeError for anything else."""
    c = plain(c)
    if isinstance(c, Tensor):
        return c
    try:
        return float(c) if isinstance(c, (int, float)) else [float(v) for v in c]
    except (TypeError, ValueError, OverflowError):
        raise ArgumentTypeError(
            f"coefficient {shown(c)} must be a number, or one number a sample"
        ) from None


def _check_lists(*named: tuple[str, object]) -> None:
    """Raise ArgumentTypeError unless all are lists or tuples."""
    for name, value in named:
        if not isinstance(value, (list, tuple)):
            raise ArgumentTypeError(f"{name}={shown(value)} must be a list")


def linear_step(outputs: Sequence[Tensor], inputs: Sequence[Tensor], coefficients: Rows) -> None:
    """Overwrite ``outputs[j]`` with ``sum_i coefficients[j][i] * inputs[i]``; see the module for
    the arithmetic.

    All tensors share one shape ``(B, ...)`` and one device; layouts and floating point dtypes may
    differ. Outputs may not share memory with inputs or with each other. No gradient is recorded.
    When an output and its inputs are all float32, or all float64, nothing is allocated. Per-sample
    sequences that were not made ready by :func:`prepare` are sent to the device here, at each call.

    Raises ValueError when counts, shapes or batch sizes disagree or memory is shared, TypeError for
    prepared coefficients of a dtype other than the accumulator's.
    """
    _check(outputs, inputs, coefficients)
    with torch.no_grad() if torch.is_grad_enabled() else nullcontext():
        for out, row in zip(outputs, coefficients, strict=True):
            terms = _terms(inputs, row, out.dtype)
            if all(x.dtype == out.dtype for x, _ in terms) and out.dtype in (
                torch.float32,
                torch.float64,
            ):
                _accumulate(out, terms)
            else:
                _accumulate_blocks(out, terms)


def linear_combination(
    inputs: Sequence[Tensor], coefficients: Sequence[Coefficient], dtype: torch.dtype
) -> Tensor:
    """``sum_i coefficients[i] * inputs[i]`` as a new tensor of ``dtype``, with the bits of
    :func:`linear_step`; differentiable."""
    _check_lists(("inputs", inputs), ("coefficients", coefficients))
    for i, x in enumerate(inputs):
        instance(f"inputs[{i}]", x, Tensor, "a tensor")
    instance("dtype", dtype, torch.dtype, "a torch.dtype")
    if len(inputs) != len(coefficients) or not inputs:
        raise ArgumentError(
            f"{len(coefficients)} coefficients for {len(inputs)} inputs; there must be "
            "one for each input, and at least one input"
        )
    terms = _terms(inputs, coefficients, dtype)
    acc_dtype = accumulator_dtype([dtype, *(x.dtype for x, _ in terms)])
    total: Tensor | None = None
    for x, c in terms:
        x = x.to(acc_dtype)
        if total is None:
            total = x * c
        else:
            total = (
                torch.addcmul(total, x, c)
                if isinstance(c, Tensor)
                else torch.add(total, x, alpha=c)
            )
    return torch.zeros_like(inputs[0], dtype=dtype) if total is None else total.to(dtype)


def linear_new(
    inputs: Sequence[Tensor],
    rows: Sequence[Terms],
    firsts: Sequence[Tensor],
    dtype: torch.dtype,
    outputs: Sequence[Tensor] | None = None,
    packed: bytes = b"",
) -> Sequence[Tensor]:
    """:func:`linear_step` into new tensors of ``dtype``, or into ``outputs`` of that dtype, for
    launches checked beforehand: ``rows[j]`` lists (input, number other than 0).

    ``firsts[j]`` is row j's first number as a host tensor of no axes in ``dtype`` (a float would
    become one at each call). ``packed`` are the rows for the compiled kernel (``native.pack``),
    which runs where no gradient is recorded and it takes the tensors. Nothing is checked here:
    inputs share shape and device. The result has the bits of :func:`linear_step` and is
    differentiable where gradients are enabled.
    """
    if packed and linear_backend() == "native" and (outputs or not torch.is_grad_enabled()):
        made = outputs
        if made is None:
            made = [torch.empty_like(inputs[0], dtype=dtype) for _ in rows] if inputs else []
        if native_step(packed, inputs, made, dtype):
            return made
    plain = dtype in (torch.float32, torch.float64)
    for x in inputs:
        plain = plain and x.dtype == dtype
    if plain:
        if outputs is None:
            return [_new(inputs, row, first) for row, first in zip(rows, firsts, strict=True)]
        for out, row, first in zip(outputs, rows, firsts, strict=True):
            _new(inputs, row, first, out)
        return outputs
    if outputs is None and torch.is_grad_enabled():
        return linear_traced(inputs, rows, dtype)
    if outputs is None:
        outputs = [torch.empty_like(inputs[0], dtype=dtype) for _ in rows]
    for out, row in zip(outputs, rows, strict=True):
        _accumulate_blocks(out, [(inputs[i], c) for i, c in row])
    return outputs


def linear_traced(
    inputs: Sequence[Tensor], rows: Sequence[Terms], dtype: torch.dtype
) -> list[Tensor]:
    """:func:`linear_new` where torch traces (``torch.compile``, transforms of ``torch.func``): no
    operation writes in place, and the coefficients are numbers of the graph. The same bits."""
    return [
        linear_combination(
            [inputs[i] for i, _ in row] or inputs[:1], [c for _, c in row] or [0.0], dtype
        )
        for row in rows
    ]


def _new(inputs: Sequence[Tensor], row: Terms, first: Tensor, out: Tensor | None = None) -> Tensor:
    """:func:`_accumulate` into a tensor of its own, or into ``out``."""
    if not row:
        return torch.zeros_like(inputs[0]) if out is None else out.zero_()
    (i, c), rest = row[0], row[1:]
    if c != 1.0:
        acc = torch.mul(inputs[i], first, out=out)
    elif rest:
        (j, d), rest = rest[0], rest[1:]
        acc = torch.add(inputs[i], inputs[j], alpha=d, out=out)
    else:
        acc = inputs[i].clone() if out is None else out.copy_(inputs[i])
    for i, c in rest:
        acc.add_(inputs[i], alpha=c)
    return acc


def _terms(
    inputs: Sequence[Tensor], row: Sequence[Coefficient], dtype: torch.dtype
) -> list[tuple[Tensor, float | Tensor]]:
    """The (input, coefficient) pairs with a coefficient other than 0; per-sample sequences are
    prepared, prepared ones checked."""
    pairs = [
        (x, c)
        for x, c in zip(inputs, row, strict=True)
        if not isinstance(c, (int, float)) or c != 0.0
    ]
    out: list[tuple[Tensor, float | Tensor]] = []
    for x, c in pairs:
        if isinstance(c, (int, float)):
            out.append((x, c))
            continue
        acc_dtype = accumulator_dtype([dtype, *(y.dtype for y, _ in pairs)])
        ready = (
            c
            if isinstance(c, Tensor)
            else prepare([[c]], ndim=x.ndim, device=x.device, dtype=acc_dtype)[0][0]
        )
        if isinstance(ready, float):
            continue
        if ready.shape != (x.shape[0], *(1,) * (x.ndim - 1)):
            raise ArgumentError(
                f"per-sample coefficients of shape {tuple(ready.shape)} for an input of "
                f"shape {tuple(x.shape)}; there must be one per sample"
            )
        if ready.dtype != acc_dtype:
            raise ArgumentTypeError(
                f"per-sample coefficients were prepared in {ready.dtype}, but this launch "
                f"accumulates in {acc_dtype}"
            )
        out.append((x, ready))
    return out


def _accumulate(acc: Tensor, terms: Sequence[tuple[Tensor, float | Tensor]]) -> None:
    """``acc <- sum c * x`` in place; inputs of a lower precision are widened on the way."""
    if not terms:
        acc.zero_()
        return
    (x, c), rest = terms[0], terms[1:]
    if x.dtype == acc.dtype:
        torch.mul(x, c, out=acc)
    else:
        acc.copy_(x).mul_(c)
    for x, c in rest:
        if isinstance(c, Tensor):
            acc.addcmul_(x, c)
        else:
            acc.add_(x, alpha=c)


def _accumulate_blocks(out: Tensor, terms: Sequence[tuple[Tensor, float | Tensor]]) -> None:
    """:func:`_accumulate` for mixed dtypes: rounded to ``out`` once, on a CPU a few samples at a
    time, so that nothing wide is large."""
    acc_dtype = accumulator_dtype([out.dtype, *(x.dtype for x, _ in terms)])
    n, size = out.shape[0], math.prod(out.shape[1:])
    many = min(n, max(1, _BLOCK // max(1, size))) if out.device.type == "cpu" else n
    scratch = (
        None
        if out.dtype == acc_dtype
        else torch.empty((many, *out.shape[1:]), dtype=acc_dtype, device=out.device)
    )
    for first in range(0, n, max(1, many)):
        rows = slice(first, min(first + many, n))
        part = (
            terms
            if many == n
            else [(x[rows], c[rows] if isinstance(c, Tensor) else c) for x, c in terms]
        )
        if scratch is None:
            _accumulate(out[rows], part)
        else:
            acc = scratch[: rows.stop - rows.start]
            _accumulate(acc, part)
            out[rows].copy_(acc)


def _check(outputs: Sequence[Tensor], inputs: Sequence[Tensor], coefficients: Rows) -> None:
    """Raise ValueError unless counts and shapes agree and no output shares memory with another
    tensor of the launch."""
    _check_lists(("outputs", outputs), ("inputs", inputs), ("coefficients", coefficients))
    _check_lists(*(("a row of coefficients", row) for row in coefficients))
    if len(coefficients) != len(outputs) or any(len(row) != len(inputs) for row in coefficients):
        rows = [len(row) for row in coefficients]
        raise ArgumentError(
            f"coefficient rows of lengths {rows} for {len(outputs)} outputs and "
            f"{len(inputs)} inputs; there must be one row per output"
        )
    if not outputs:
        return
    stray = [
        t
        for t in (*outputs, *inputs)
        if not isinstance(t, Tensor) or t.is_complex() or t.is_meta or t.is_sparse
    ]
    if stray:
        raise ArgumentTypeError(
            f"outputs and inputs must be dense tensors of real numbers, got {described(stray[0])}"
        )
    shape = outputs[0].shape
    if not shape or any(t.shape != shape for t in (*outputs, *inputs)):
        shapes = [tuple(t.shape) for t in (*outputs, *inputs)]
        raise ArgumentError(
            f"outputs and inputs of shapes {shapes}; all must have one shape, batch first"
        )
    taken = [_span(t) for t in (*outputs, *inputs)]
    for j, (low, high) in enumerate(taken[: len(outputs)]):
        for i, (start, stop) in enumerate(taken[j + 1 :], j + 1):
            if low < stop and start < high:
                other = f"outputs[{i}]" if i < len(outputs) else f"inputs[{i - len(outputs)}]"
                raise ArgumentError(
                    f"outputs[{j}] shares memory with {other}; an output must not "
                    "share memory with another tensor of the launch"
                )


def _span(t: Tensor) -> tuple[int, int]:
    """The address range that a tensor certainly covers: all its bytes when contiguous, else those
    of its first element (computed on the host)."""
    start = t.data_ptr()
    count = t.numel() if t.is_contiguous() else min(1, t.numel())
    return start, start + count * t.element_size()

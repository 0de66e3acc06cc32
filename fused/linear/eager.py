"""Linear step in plain torch: every output is a linear combination of the inputs.

    outputs[j]  <-  sum_i  coefficients[j][i] * inputs[i]

A coefficient is a Python float, 0.0 (the input is then not read, whatever it holds), or one float
per sample, multiplied along the batch axis. This is the reference of the kernels, and what computes
where there is none; ``steps`` chooses.

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
from typing import TypeAlias

import torch
from torch import Tensor

from ...checks import ArgumentError, ArgumentTypeError, instance, integer, plain, shown
from .device import Input
from .step_checks import check_lists

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
    check_lists(("coefficients", coefficients))
    check_lists(*(("a row of coefficients", row) for row in coefficients))
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


def torch_step(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    rows: Sequence[Sequence[tuple[int, float | Tensor]]],
    clamp: Sequence[tuple[float, float] | None],
) -> None:
    """Overwrite the outputs; ``rows[j]`` lists (input, coefficient), in the order of inputs.
    Nothing is checked, and no gradient is recorded."""
    for out, row, pair in zip(outputs, rows, clamp, strict=True):
        terms = [(inputs[i], c) for i, c in row]
        if all(x.dtype == out.dtype for x, _ in terms) and out.dtype in (
            torch.float32,
            torch.float64,
        ):
            _accumulate(out, terms)
            if pair is not None:
                out.clamp_(*pair)
        else:
            _accumulate_blocks(out, terms, pair)


def linear_combination(
    inputs: Sequence[Tensor], coefficients: Sequence[Coefficient], dtype: torch.dtype
) -> Tensor:
    """``sum_i coefficients[i] * inputs[i]`` as a new tensor of ``dtype``, with the bits of
    ``linear_step`` in torch operations; differentiable."""
    check_lists(("inputs", inputs), ("coefficients", coefficients))
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


def torch_new(
    inputs: Sequence[Tensor],
    rows: Sequence[Terms],
    firsts: Sequence[Tensor],
    dtype: torch.dtype,
    outputs: Sequence[Tensor] | None,
) -> Sequence[Tensor]:
    """New tensors of ``dtype``, or ``outputs`` of that dtype, for launches checked beforehand:
    ``rows[j]`` lists (input, number other than 0), and ``firsts[j]`` is row j's first number as a
    host tensor of no axes in ``dtype`` (a float would become one at each call). Differentiable
    where gradients are enabled."""
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
    """:func:`torch_new` where torch traces (``torch.compile``, transforms of ``torch.func``): no
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
    """The (input, coefficient) pairs of :func:`numbered`."""
    return [(inputs[i], c) for i, c in numbered(inputs, row, dtype)]


def numbered(
    inputs: Sequence[Input], row: Sequence[Coefficient], dtype: torch.dtype
) -> list[tuple[int, float | Tensor]]:
    """The (place of an input, coefficient) pairs with a coefficient other than 0; per-sample
    sequences are prepared, prepared ones checked."""
    pairs = [
        (i, x, c)
        for i, (x, c) in enumerate(zip(inputs, row, strict=True))
        if not isinstance(c, (int, float)) or c != 0.0
    ]
    out: list[tuple[int, float | Tensor]] = []
    for i, x, c in pairs:
        if isinstance(c, (int, float)):
            out.append((i, c))
            continue
        acc_dtype = accumulator_dtype([dtype, *(y.dtype for _, y, _ in pairs)])
        ndim = len(x.shape)
        ready = (
            c
            if isinstance(c, Tensor)
            else prepare([[c]], ndim=ndim, device=x.device, dtype=acc_dtype)[0][0]
        )
        if isinstance(ready, float):
            continue
        if ready.shape != (x.shape[0], *(1,) * (ndim - 1)):
            raise ArgumentError(
                f"per-sample coefficients of shape {tuple(ready.shape)} for an input of "
                f"shape {tuple(x.shape)}; there must be one per sample"
            )
        if ready.dtype != acc_dtype:
            raise ArgumentTypeError(
                f"per-sample coefficients were prepared in {ready.dtype}, but this launch "
                f"accumulates in {acc_dtype}"
            )
        out.append((i, ready))
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


def _accumulate_blocks(
    out: Tensor,
    terms: Sequence[tuple[Tensor, float | Tensor]],
    clamp: tuple[float, float] | None = None,
) -> None:
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
            if clamp is not None:
                out[rows].clamp_(*clamp)
        else:
            acc = scratch[: rows.stop - rows.start]
            _accumulate(acc, part)
            out[rows].copy_(acc if clamp is None else acc.clamp_(*clamp))

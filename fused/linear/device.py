"""The linear step by triton's kernel, on a CUDA device: one launch for up to 4 outputs.

    outputs[j]  <-  clamp_j( sum_i c_ji inputs[i] )

Every input with a coefficient is read once, in the memory order that the tensors share; tensors of
another order are copied to it first. Inputs may be normals that are not drawn yet (``Drawn``): the
launch draws them. The sum is that of ``eager``, with one fused multiply-add a term, so the two
differ by rounding only: by ``(K + 1) 2^-24 sum_i |c_ji inputs[i]|`` at most, and one unit in the
last place of an output of 16 bits.

Coefficients are arguments of the launch, or a table in the memory of the device: one line for each
sample, or one for each step, of which ``index`` (an integer on the device) picks one, so that a
recorded CUDA graph of one step serves all steps.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..devices import aligned, tile, trusted
from ..noise.seeded import Drawn
from .launch import UNITS, Bounds, Numbers, Source, Variant, launch, wrong

#: an input of a step
Input: TypeAlias = Tensor | Drawn

#: outputs of one launch, normals that it draws, inputs of a step
OUTPUTS, DRAWS, INPUTS = 4, 4, 64
#: tables of float64 coefficients: never freed, because a recorded graph may read them
_tables: dict[tuple[tuple[float, ...], torch.device], Tensor] = {}
_MOST_TABLES = 1 << 14


class Group(NamedTuple):
    """Up to 4 outputs of a step, from ``first`` on, for one launch.

    ``used``: the inputs with a coefficient; ``masks``: which of them each output has; entry
    ``i N + j`` of ``numbers`` is the coefficient of the i-th of them in output j of N, in
    float32 in ``single``.
    """

    first: int
    used: tuple[int, ...]
    masks: tuple[int, ...]
    numbers: tuple[float, ...]
    single: tuple[float, ...]


@lru_cache(maxsize=4096)
def groups(packed: bytes) -> tuple[Group, ...] | None:
    """The launches of rows that ``native.pack`` packed; None where the kernel does not take them:
    terms that are not in the order of the inputs, many inputs, a coefficient out of float32."""
    rows: list[dict[int, float]] = []
    for i, _, c in struct.iter_unpack("=iid", packed):
        if i < 0:
            rows.append({})
            continue
        if (rows[-1] and i <= max(rows[-1])) or i >= INPUTS or not abs(c) < 3.4e38:
            return None
        rows[-1][i] = c
    return tuple(_group(rows[k : k + OUTPUTS], k) for k in range(0, len(rows), OUTPUTS))


def _group(rows: Sequence[dict[int, float]], first: int) -> Group:
    used = tuple(sorted({i for row in rows for i in row}))
    masks = tuple(sum(1 << k for k, i in enumerate(used) if i in row) for row in rows)
    numbers = tuple(row.get(i, 0.0) for i in used for row in rows)
    return Group(first, used, masks, numbers, tuple(np.asarray(numbers, np.float32).tolist()))


def device_step(packed: bytes, inputs: Sequence[Input], outputs: Sequence[Tensor]) -> bool:
    """Overwrite ``outputs`` by the rows that ``native.pack`` packed; False where the kernel does
    not take the tensors, or did not pass its check. No gradient is recorded. Tensors share shape
    and device; outputs may not share memory with another tensor."""
    parts = groups(packed)
    if parts is None or not takes(inputs, outputs):
        return False
    for part in parts:
        outs = outputs[part.first : part.first + len(part.masks)]
        given = [inputs[i] for i in part.used]
        numbers = _scalars(part, given, outs)
        if numbers is None or not run(part.masks, given, outs, numbers):
            return False
    torch.autograd.graph.increment_version(outputs)
    return True


def device_rows(
    rows: Sequence[Sequence[tuple[int, float | Tensor]]],
    inputs: Sequence[Input],
    outputs: Sequence[Tensor],
    clamp: Bounds,
) -> bool:
    """:func:`device_step` for coefficients of which some are one per sample, (B, 1, ..., 1), and
    for outputs that are clamped: ``rows[j]`` lists (input, coefficient) in the order of inputs."""
    if not takes(inputs, outputs) or len(inputs) > INPUTS:
        return False
    for first in range(0, len(rows), OUTPUTS):
        outs, bounds = outputs[first : first + OUTPUTS], clamp[first : first + OUTPUTS]
        found = [dict(row) for row in rows[first : first + OUTPUTS]]
        used = sorted({i for row in found for i in row})
        given = [inputs[i] for i in used]
        masks = tuple(sum(1 << k for k, i in enumerate(used) if i in row) for row in found)
        entries = [row.get(i, 0.0) for i in used for row in found]
        numbers = _per_sample(entries, given, outs)
        if numbers is None or not run(masks, given, outs, numbers, bounds):
            return False
    torch.autograd.graph.increment_version(outputs)
    return True


def device_table(
    outputs: Sequence[Tensor],
    inputs: Sequence[Input],
    table: Tensor,
    index: Tensor,
    draws: Tensor | None = None,
) -> bool:
    """``outputs[j] <- sum_i table[index, i, j] inputs[i]``: one launch for every step of a run, as
    a recorded CUDA graph needs it. An input is not read where its coefficients are 0.

    ``table``: (steps, inputs, outputs), contiguous, in the dtype of the sums; ``index``: int64,
    one element; ``draws``: (steps, 4) int64, the draws of the inputs that are ``Drawn``, in order.
    All are on the device. False where the kernel does not take the tensors.
    """
    k, n = table.shape[1:]
    many = 1 <= n <= OUTPUTS and 1 <= k <= INPUTS and (k, n) == (len(inputs), len(outputs))
    if not (many and takes(inputs, outputs) and table.is_contiguous()):
        return False
    if table.dtype != (torch.float64 if _wide(inputs, outputs) else torch.float32):
        return False
    numbers = Numbers((), table, k * n, 0, index)
    return run(((1 << k) - 1,) * n, inputs, outputs, numbers, (), draws)


def takes(inputs: Sequence[Input], outputs: Sequence[Tensor]) -> bool:
    """Whether the kernel reads and writes tensors of these kinds."""
    for t in (*inputs, *outputs):
        if t.dtype not in UNITS or not (type(t) is Drawn or (type(t) is Tensor and not t.is_neg())):
            return False
    return bool(outputs)


def _wide(inputs: Sequence[Input], outputs: Sequence[Tensor]) -> bool:
    return any(t.dtype == torch.float64 for t in (*inputs, *outputs))


def _scalars(part: Group, inputs: Sequence[Input], outputs: Sequence[Tensor]) -> Numbers | None:
    """The coefficients as arguments, in float64 as a table; None where it is not on the device and
    cannot go there now."""
    if not _wide(inputs, outputs):
        return Numbers(part.single)
    device = outputs[0].device
    table = _tables.get((part.numbers, device))
    if table is None:
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return None
        with torch.inference_mode(False):
            table = torch.tensor(part.numbers, dtype=torch.float64, device=device)
        if len(_tables) < _MOST_TABLES:
            _tables[part.numbers, device] = table
    return Numbers((), table)


def _per_sample(
    entries: Sequence[float | Tensor], inputs: Sequence[Input], outputs: Sequence[Tensor]
) -> Numbers | None:
    """The coefficients of a launch, a line for each sample where one of them is per sample."""
    if not any(isinstance(c, Tensor) for c in entries):
        values = tuple(c for c in entries if not isinstance(c, Tensor))
        single = tuple(np.asarray(values, np.float32).tolist())
        return _scalars(Group(0, (), (), values, single), inputs, outputs)
    out = outputs[0]
    dtype = torch.float64 if _wide(inputs, outputs) else torch.float32
    table = torch.empty((out.shape[0], len(entries)), dtype=dtype, device=out.device)
    for column, c in zip(table.unbind(1), entries, strict=True):
        if isinstance(c, Tensor):
            column.copy_(c.view(-1))
        else:
            column.fill_(c)
    return Numbers((), table, 0, len(entries))


def run(
    masks: tuple[int, ...],
    inputs: Sequence[Input],
    outputs: Sequence[Tensor],
    numbers: Numbers,
    clamp: Bounds = (),
    draws: Tensor | None = None,
) -> bool:
    """One launch; False where its variant did not pass the check."""
    first = outputs[0]
    if not inputs or not first.numel():
        for out in outputs:
            out.zero_()
        _clamp(outputs, clamp)
        return True
    ins, source = _sources(inputs, draws)
    by_row = bool(numbers.row) or source is not None
    made, tensors = _laid_out(outputs, ins, by_row)
    rows = first.shape[0] if by_row else 1
    size = first.numel() // rows
    late = any(clamp) and _wide(inputs, outputs)  # bounds are float32 arguments
    bounds = () if late else clamp
    variant = Variant(
        masks,
        tuple(out.dtype for out in outputs),
        tuple(None if x is None else x.dtype for x in tensors),
        torch.float32 if source is None else next(x.dtype for x in inputs if type(x) is Drawn),
        source is not None and source.places is not None,
        tuple(pair is not None for pair in bounds),
        0 if numbers.table is None else 2 if numbers.row else 1,
        numbers.which is not None,
        tile(rows, size),
        size == 1,
        size % 16 == 0,
        aligned(*made, *(x for x in tensors if x is not None)),
    )
    if not trusted(first.device, variant, lambda: wrong(variant, first.device, rows, size)):
        return False
    launch(variant, made, tensors, rows, size, numbers, bounds, source)
    for out, other in zip(outputs, made, strict=True):
        if out is not other:
            out.copy_(other)
    if late:
        _clamp(outputs, clamp)
    return True


def _clamp(outputs: Sequence[Tensor], clamp: Bounds) -> None:
    for out, pair in zip(outputs, clamp, strict=False):
        if pair is not None:
            out.clamp_(*pair)


def _sources(
    inputs: Sequence[Input], draws: Tensor | None
) -> tuple[list[Tensor | None], Source | None]:
    """The tensors, None for normals that the launch draws: those of one source, 4 at most; others
    are drawn here."""
    found: list[Tensor | None] = []
    head: Drawn | None = None
    words: list[int] = []
    for x in inputs:
        if not isinstance(x, Drawn):
            found.append(x)
            continue
        head = head or x
        same = x.keys is head.keys and x.places is head.places and x.stream == head.stream
        if same and x.dtype == head.dtype and len(words) < DRAWS:
            words.append(x.draw)
            found.append(None)
        else:
            found.append(x.tensor())
    if head is None:
        return found, None
    return found, Source(head.keys, head.places, head.stream, tuple(words), draws)


def _laid_out(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor | None], by_row: bool
) -> tuple[Sequence[Tensor], Sequence[Tensor | None]]:
    """Tensors of one memory order without gaps, C order where ``by_row``: those given, and copies
    or new tensors for those of another order."""
    if all(t is None or t.is_contiguous() for t in (*outputs, *inputs)):
        return outputs, inputs
    first = outputs[0]
    if by_row or not _dense(first):
        first = torch.empty(first.shape, device="meta")
    strides = first.stride()

    def new(t: Tensor) -> Tensor:
        return torch.empty_strided(t.shape, strides, dtype=t.dtype, device=t.device)

    made = [t if t.stride() == strides else new(t) for t in outputs]
    read = [t if t is None or t.stride() == strides else new(t).copy_(t) for t in inputs]
    return made, read


def _dense(t: Tensor) -> bool:
    """Whether the elements fill a stretch of memory, each at a place of its own."""
    expected = 1
    for stride, size in sorted(zip(t.stride(), t.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True

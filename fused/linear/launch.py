"""One launch of triton's kernel of the linear step: its variant, its arguments, and the check of a
variant before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..devices import Tile, current, signed
from ..noise.fills import fill_torch

#: (low, high) of each output that is clamped
Bounds = tuple[tuple[float, float] | None, ...]
#: dtype -> half the distance of 1 to the next number
UNITS = {
    torch.float32: 2.0**-24,
    torch.bfloat16: 2.0**-8,
    torch.float16: 2.0**-11,
    torch.float64: 2.0**-53,
}
#: how far a normal may be from that of the torch form
_NORMAL = 1e-6


class Variant(NamedTuple):
    """What triton compiles a kernel for.

    Attributes:
        masks: of each output, which inputs it has, by bit.
        outs: the dtypes of the outputs.
        ins: the dtypes of the inputs, None where the launch draws normals.
        like: the dtype that the normals are rounded to.
        placed: whether rows have particle numbers.
        clamp: whether each output is clamped.
        table: 0 for coefficients as arguments, 1 for a line that all rows share, 2 for one a row.
        indexed: whether the line is picked by a number on the device.
        tile: rows and columns of a program.
        one: whether there is one column.
        even: whether the number of columns is divisible by 16.
        aligned: whether the tensors begin at addresses divisible by 16.
    """

    masks: tuple[int, ...]
    outs: tuple[torch.dtype, ...]
    ins: tuple[torch.dtype | None, ...]
    like: torch.dtype
    placed: bool
    clamp: tuple[bool, ...]
    table: int
    indexed: bool
    tile: Tile
    one: bool
    even: bool
    aligned: bool

    @property
    def wide(self) -> bool:
        """Whether sums are float64."""
        return torch.float64 in (*self.outs, *self.ins)

    @property
    def drawn(self) -> int:
        """Digit i (base 8): which of the draws input i is, from 1; 0 for a tensor."""
        code, d = 0, 0
        for i, dtype in enumerate(self.ins):
            if dtype is None:
                d += 1
                code |= d << (3 * i)
        return code


class Numbers(NamedTuple):
    """Coefficients of a launch: ``values`` as arguments, or ``table``, whose lines are ``step`` and
    ``row`` entries apart, and ``which`` step it is."""

    values: tuple[float, ...] = ()
    table: Tensor | None = None
    step: int = 0
    row: int = 0
    which: Tensor | None = None


class Source(NamedTuple):
    """Where normals of a launch come from: keys and particles of the rows, the stream, and counter
    words of the draws, as numbers or as a table on the device (a line of 4 a step)."""

    keys: Tensor
    places: Tensor | None
    stream: int
    draws: tuple[int, ...]
    table: Tensor | None = None


def launch(
    variant: Variant,
    outs: Sequence[Tensor],
    ins: Sequence[Tensor | None],
    rows: int,
    size: int,
    numbers: Numbers,
    bounds: Bounds,
    source: Source | None = None,
) -> None:
    """Run the kernel on (rows, size) elements; see ``step_kernel.step``."""
    from .step_kernel import step

    kernel: Any = step
    first = outs[0]
    tensors = tuple(first if x is None else x for x in ins)
    words = [signed(word) for word in (() if source is None else source.draws)]
    masks = (*variant.masks, 0, 0, 0)[:4]
    limits = tuple(v for pair in bounds for v in ((0.0, 0.0) if pair is None else pair))
    with current(first.device):
        kernel[(variant.tile.programs(rows, size),)](
            tuple(outs),
            tensors,
            numbers.values or (0.0,),
            limits if any(variant.clamp) else (0.0,),
            first if numbers.table is None else numbers.table,
            first if numbers.which is None else numbers.which,
            first if source is None else source.keys,
            first if source is None or source.places is None else source.places,
            first if source is None or source.table is None else source.table,
            0 if source is None else signed(source.stream),
            *(*words, 0, 0, 0, 0)[:4],
            rows,
            size,
            numbers.step,
            numbers.row,
            variant.tile.rows,
            variant.tile.columns,
            len(tensors),
            len(outs),
            *masks,
            variant.drawn,
            {torch.bfloat16: 1, torch.float16: 2}.get(variant.like, 0),
            variant.placed,
            sum(1 << j for j, clamped in enumerate(variant.clamp) if clamped),
            variant.table,
            variant.indexed,
            variant.wide,
            num_warps=variant.tile.warps,
            enable_fp_fusion=False,
        )


def wrong(variant: Variant, device: torch.device, rows: int, size: int) -> str | None:
    """What is wrong with the kernel of ``variant`` for (rows, size) elements; None where nothing
    is: small tensors go through it, and the sums in float64 tell."""
    own = variant.tile
    rows = 1 if rows == 1 else own.rows + 1
    size = size if size <= own.columns else 2 * own.columns + size % 16
    ins = [_values(i, t, rows, size, device, variant.aligned) for i, t in enumerate(variant.ins)]
    outs = [_empty(t, rows, size, device, variant.aligned) for t in variant.outs]
    numbers, source = _numbers(variant, rows, device), _source(variant, rows, device)
    bounds = tuple((-0.5, 0.75) if clamped else None for clamped in variant.clamp)
    launch(variant, outs, ins, rows, size, numbers, bounds, source)
    wanted, errors = _sums(variant, ins, rows, size, numbers, bounds, source, device)
    for out, value, error in zip(outs, wanted, errors, strict=True):
        error = error + 2.0 * UNITS[out.dtype] * value.abs() + torch.finfo(out.dtype).tiny
        worst = float(((out.double() - value).abs() / error).max())
        if not worst <= 1.0:
            return f"a step of the kernel differs from that of torch by {worst} times the rounding"
    return None


def _empty(dtype: torch.dtype, rows: int, size: int, device: torch.device, aligned: bool) -> Tensor:
    """(rows, size) elements, one element off an aligned address where not ``aligned``."""
    off = 0 if aligned else 1
    return torch.zeros(rows * size + off, dtype=dtype, device=device)[off:].view(rows, size)


def _values(
    i: int, dtype: torch.dtype | None, rows: int, size: int, device: torch.device, aligned: bool
) -> Tensor | None:
    if dtype is None:
        return None
    x = _empty(dtype, rows, size, device, aligned)
    places = torch.arange(rows * size, dtype=torch.float64, device=device)
    return x.copy_((0.37 * places + 0.7 * i).cos().view(rows, size))


def _numbers(variant: Variant, rows: int, device: torch.device) -> Numbers:
    count = len(variant.ins) * len(variant.outs)
    if variant.table == 0:
        return Numbers(tuple((0.5 + 0.25 * (k % 5)) * (-1.0) ** k for k in range(count)))
    lines = rows if variant.table == 2 else 1
    steps = 2 if variant.indexed else 1
    dtype = torch.float64 if variant.wide else torch.float32
    places = torch.arange(steps * lines * count, dtype=torch.float64, device=device)
    table = (1.3 * places + 0.2).cos().to(dtype)
    index = torch.ones(1, dtype=torch.int64, device=device) if variant.indexed else None
    return Numbers((), table, lines * count, count if variant.table == 2 else 0, index)


def _source(variant: Variant, rows: int, device: torch.device) -> Source | None:
    draws = tuple(0x80000001 + k for k, dtype in enumerate(variant.ins) if dtype is None)
    if not draws:
        return None
    keys = torch.tensor([[7, 0xFFFFFFFF], [0, 0x89ABCDEF]], dtype=torch.int64, device=device)
    keys = keys.repeat(1, rows)[:, :rows].contiguous()
    places = torch.arange(rows, device=device) * 0x5555555 % (1 << 32) if variant.placed else None
    table = torch.zeros((2, 4), dtype=torch.int64, device=device) if variant.indexed else None
    if table is not None:
        table[1, : len(draws)] = torch.tensor(draws)
    return Source(keys, places, 3, draws, table)


def _sums(
    variant: Variant,
    ins: Sequence[Tensor | None],
    rows: int,
    size: int,
    numbers: Numbers,
    bounds: Bounds,
    source: Source | None,
    device: torch.device,
) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs in float64, and how far rounding may take them."""
    outs = len(variant.outs)
    unit = UNITS[torch.float64 if variant.wide else torch.float32] * (len(ins) + 1)
    wanted = [torch.zeros((rows, size), dtype=torch.float64, device=device) for _ in range(outs)]
    errors = [torch.zeros_like(value) for value in wanted]
    draws = iter(() if source is None else source.draws)
    for i, given in enumerate(ins):
        x, own = given, 0.0
        if x is None:
            assert source is not None
            x = torch.zeros((rows, size), device=device)
            fill_torch(x, source.keys, source.stream, next(draws), source.places)
            x, own = x.to(variant.like), _NORMAL + 14.0 * UNITS[variant.like]
        for j in range(outs):
            if variant.masks[j] >> i & 1:
                c = _coefficient(numbers, i * outs + j, rows)
                wanted[j] += c * x.double()
                errors[j] += abs(c) * (unit * x.double().abs() + own)
    for j, pair in enumerate(bounds):
        if pair is not None:
            wanted[j].clamp_(*pair)
    return wanted, errors


def _coefficient(numbers: Numbers, at: int, rows: int) -> Any:
    """Number ``at`` in float64, the one of step 1 where there are steps, (rows, 1) of the rows."""
    if numbers.table is None:
        return numbers.values[at]
    begin = numbers.step if numbers.which is not None else 0
    if not numbers.row:
        return numbers.table[begin + at].double()
    return numbers.table[begin:].view(rows, numbers.row)[:, at : at + 1].double()

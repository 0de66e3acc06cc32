"""The loop as one function of tensors, for ``torch.compile``: the place in the run is a tensor, and every launch is the same expression.

``advance`` follows a launch's own structure, which a compiler would specialise on, once a launch. Here all launches of a program are
matrices of one shape, ``rows x columns``: the columns are the kept buffers, the state that was evaluated, the network's output and the
step's noises, the rows are what the launch makes, the next state first, padded with zeros. A step picks its matrix by a tensor index, so
coefficients are data of the graph, and one graph serves every step of every run of that shape. The evaluated state is an argument: an
edited one counts as ``loop`` says, its difference being one more combination.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..fused.linear import accumulator_dtype
from .instructions import PlanError
from .lowering import Launch, Operand, Program

Row = dict[Operand, float]
_SAMPLE = Operand("sample", 0)


@dataclass(frozen=True)
class Table:
    """``matrix[k][j][i]`` multiplies column i in row j of the launch after call k; row j goes to buffer ``targets[k][j]``.

    ``buffers`` counts them, the last one being where padding goes; ``noises`` is the most that a launch draws.
    """

    buffers: int
    noises: int
    matrix: tuple[tuple[tuple[float, ...], ...], ...]
    targets: tuple[tuple[int, ...], ...]


def tabulate(program: Program) -> Table:
    """The table of ``program``. PlanError where a launch precedes the first call, or where the network has several outputs."""
    if program.launches[0].outs or program.raws != 1:
        raise PlanError("only a program that begins with its network call, and of a network of one output, becomes a table")
    rows, spare = _rows(program)
    fresh = [sorted({o for _, row in launch for o in row if o.kind == "noise"}) for launch in rows]
    noises, most = max(map(len, fresh), default=0), max(map(len, rows), default=0)
    matrix, targets = [], []
    for launch, drawn in zip(rows, fresh, strict=True):
        place = {o: spare + 2 + i for i, o in enumerate(drawn)} | {_SAMPLE: spare, Operand("raw", 0): spare + 1}
        lines = [[0.0] * (spare + 2 + noises) for _ in range(most)]
        for line, (_, row) in zip(lines, launch, strict=False):
            for o, c in row.items():
                line[o.number if o.kind == "slot" else place[o]] += c
        matrix.append(tuple(map(tuple, lines)))
        targets.append(tuple(slot for slot, _ in launch) + (spare,) * (most - len(launch)))
    return Table(spare + 1, noises, tuple(matrix), tuple(targets))


def _rows(program: Program) -> tuple[list[list[tuple[int, Row]]], int]:
    """(buffer, combination) of each launch, and the number of buffers: the program's, and one for each noise or edit that is kept."""
    kept = _kept(program)
    place = {o: program.slots + i for i, o in enumerate(kept)}
    rows = []
    for k, launch in enumerate(program.launches[1:], 1):
        call = program.calls[k - 1]
        change = {_SAMPLE: 1.0, Operand("slot", call.state): -1.0}
        made = [(slot, _row(launch, j, k, call.state, place, kept, change)) for j, slot in enumerate(launch.outs)]
        target = program.result if launch.call is None else launch.call.state
        first = next((pair for pair in made if pair[0] == target), None)
        if first is None:
            first = (target, {_SAMPLE if target == call.state else Operand("slot", target): 1.0})
        made = [first, *(pair for pair in made if pair is not first)]
        if _read_later(program, call.state, k):
            made.append((call.state, {_SAMPLE: 1.0}))
        made += [(place[o], {o: 1.0} if o.kind == "noise" else dict(change)) for o in kept if kept[o] == k]
        rows.append(made)
    return rows, program.slots + len(kept)


def _kept(program: Program) -> dict[Operand, int]:
    """Noises and edits that a later launch reads again -> the launch that makes them."""
    first: dict[Operand, int] = {}
    kept: dict[Operand, int] = {}
    for k, launch in enumerate(program.launches):
        seen = [o for o in launch.operands if o.kind == "noise"] + [Operand("edit", number) for _, number, _ in launch.edits]
        for o in seen:
            made = o.number + 1 if o.kind == "edit" else first.setdefault(o, k)
            if made < k:
                kept[o] = made
    return kept


def _row(launch: Launch, j: int, k: int, state: int, place: dict[Operand, int], kept: dict[Operand, int], change: Row) -> Row:
    """Output ``j`` of launch ``k`` in columns of the table: the evaluated state is the sample, an edit is its difference."""
    row: Row = {}

    def add(o: Operand, c: float) -> None:
        row[o] = row.get(o, 0.0) + c

    for o, c in zip(launch.operands, launch.matrix[j], strict=True):
        if o == Operand("slot", state):
            o = _SAMPLE
        elif o.kind == "noise" and kept.get(o, k) < k:
            o = Operand("slot", place[o])
        if c != 0.0:
            add(o, c)
    for at, number, c in launch.edits:
        if at == j and number == k - 1:
            for o, sign in change.items():
                add(o, sign * c)
        elif at == j:
            add(Operand("slot", place[Operand("edit", number)]), c)
    return row


def _read_later(program: Program, slot: int, k: int) -> bool:
    """Whether the value that ``slot`` holds before launch ``k`` is read after it."""
    if slot in program.launches[k].outs:
        return False
    for launch in program.launches[k + 1 :]:
        if Operand("slot", slot) in launch.operands:
            return True
        if slot in launch.outs:
            return False
    return slot == program.result


def turn(
    buffers: Tensor, place: Tensor, matrix: Tensor, targets: Tensor, x: Tensor, raw: Tensor, noises: Sequence[Tensor] = ()
) -> tuple[Tensor, Tensor]:
    """The next state and the buffers after launch ``place + 1``; ``buffers`` is written where no gradient is recorded.

    Args:
        buffers: (n, *x.shape), all zeros before the first step.
        place: the number of calls made so far, an int64 tensor of one element on the device.
        matrix, targets: of a :class:`Table`, as tensors on the device.
        x, raw, noises: the state that was evaluated, the network's output, unit normals; one shape.
    """
    wide = accumulator_dtype([x.dtype, raw.dtype])
    columns = [t.to(wide) for t in (*buffers.unbind(0)[:-1], x, raw, *noises)]
    made = []
    for row in matrix.index_select(0, place)[0].to(wide).unbind(0):
        weights = row.unbind(0)
        total = columns[0] * weights[0]
        for column, weight in zip(columns[1:], weights[1:], strict=True):
            total = torch.addcmul(total, column, weight)
        made.append(total.to(x.dtype))
    target = targets.index_select(0, place)[0]
    write = buffers.index_copy if torch.is_grad_enabled() else buffers.index_copy_
    return made[0], write(0, target, torch.stack(made))

"""A step for ``torch.compile``: the step index is a tensor, and every launch is the same
expression.

``advance`` follows the structure of each launch, so a compiler would make a graph for each. Here
all launches of a program are matrices of one shape, ``rows x columns``, padded with zeros: the
columns are the kept buffers, the evaluated state, the network's output and the noises of the step;
the rows are the outputs of the launch, the next state first. A step selects its matrix by a tensor
index, so coefficients are data of the graph, and one graph serves every step of every run of that
shape. The evaluated state is an argument: the difference of an edited one (see ``loop``) is one
more combination.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...fused.linear.eager import accumulator_dtype
from ..instructions import PlanError
from .program import Operand, Program

Line = tuple[float, ...]


@dataclass(frozen=True)
class Table:
    """``matrix[k][j][i]`` multiplies column i in row j of the launch after call k; row j goes to
    buffer ``targets[k][j]``.

    ``buffers`` is their number; the last one takes the padding. ``noises`` is the largest number
    that one launch draws.
    """

    buffers: int
    noises: int
    matrix: tuple[tuple[tuple[float, ...], ...], ...]
    targets: tuple[tuple[int, ...], ...]


def tabulate(program: Program) -> Table:
    """The table of ``program``; PlanError where a launch precedes the first call, or where the
    network has several raw outputs."""
    if program.launches[0].outs or program.raws != 1:
        raise PlanError(
            "a compiled step needs a plan that begins with its network call, and a network of "
            "one raw output"
        )
    kept = _kept(program)
    place = {o: program.slots + i for i, o in enumerate(kept)}
    spare = program.slots + len(kept)
    fresh = [
        [o for o in x.operands if o.kind == "noise" and kept.get(o, k) == k]
        for k, x in enumerate(program.launches)
    ]
    noises = max(map(len, fresh))
    rows = []
    for k in range(1, len(program.launches)):
        columns = {o: spare + 2 + i for i, o in enumerate(sorted(fresh[k]))}
        rows.append(_rows(program, k, _Columns(spare, spare + 2 + noises, columns, place, kept)))
    most = max(map(len, rows), default=0)
    padding = (spare, (0.0,) * (spare + 2 + noises))
    full = [launch + [padding] * (most - len(launch)) for launch in rows]
    matrix = tuple(tuple(line for _, line in launch) for launch in full)
    return Table(
        spare + 1, noises, matrix, tuple(tuple(slot for slot, _ in launch) for launch in full)
    )


class _Columns(NamedTuple):
    """Columns of a launch's operands: the evaluated state at ``sample``, the network's output next,
    then the noises that it draws."""

    sample: int
    width: int
    noises: dict[Operand, int]
    place: dict[Operand, int]
    kept: dict[Operand, int]

    def of(self, o: Operand, state: int) -> int:
        """The column of an operand of a launch after the call on buffer ``state``."""
        if o.kind == "slot":
            return self.sample if o.number == state else o.number
        if o.kind == "raw":
            return self.sample + 1
        found = self.noises.get(o)
        return self.place[o] if found is None else found

    def unit(self, *entries: tuple[int, float]) -> Line:
        """A row with these (column, coefficient)."""
        line = [0.0] * self.width
        for i, c in entries:
            line[i] += c
        return tuple(line)


def _rows(program: Program, k: int, at: _Columns) -> list[tuple[int, Line]]:
    """(buffer, row) of launch ``k``: the next state first, then its other outputs and the values
    kept for later launches."""
    launch, state = program.launches[k], program.calls[k - 1].state
    columns = [at.of(o, state) for o in launch.operands]
    change = ((at.sample, 1.0), (state, -1.0))
    lines = [[0.0] * at.width for _ in launch.outs]
    for line, coefficients in zip(lines, launch.matrix, strict=True):
        for i, c in zip(columns, coefficients, strict=True):
            line[i] += c
    for j, number, c in launch.edits:
        made = (
            [(i, sign * c) for i, sign in change]
            if number == k - 1
            else [(at.place[Operand("edit", number)], c)]
        )
        for i, share in made:
            lines[j][i] += share
    rows = [(slot, tuple(line)) for slot, line in zip(launch.outs, lines, strict=True)]
    target = program.result if launch.call is None else launch.call.state
    first = next((row for row in rows if row[0] == target), None)
    if first is None:
        first = (target, at.unit((at.sample if target == state else target, 1.0)))
    rows = [first, *(row for row in rows if row is not first)]
    if _read_later(program, state, k):
        rows.append((state, at.unit((at.sample, 1.0))))
    for o, made_at in at.kept.items():
        if made_at == k:
            rows.append(
                (
                    at.place[o],
                    at.unit((at.of(o, state), 1.0)) if o.kind == "noise" else at.unit(*change),
                )
            )
    return rows


def _kept(program: Program) -> dict[Operand, int]:
    """Noises and edits that a later launch reads again -> the launch that makes them."""
    first: dict[Operand, int] = {}
    kept: dict[Operand, int] = {}
    for k, launch in enumerate(program.launches):
        seen = [o for o in launch.operands if o.kind == "noise"] + [
            Operand("edit", number) for _, number, _ in launch.edits
        ]
        for o in seen:
            made = o.number + 1 if o.kind == "edit" else first.setdefault(o, k)
            if made < k:
                kept[o] = made
    return kept


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


def table_step(
    buffers: Tensor,
    place: Tensor,
    matrix: Tensor,
    targets: Tensor,
    x: Tensor,
    raw: Tensor,
    noises: Sequence[Tensor] = (),
) -> tuple[Tensor, Tensor]:
    """The next state and the buffers after launch ``place + 1``; ``buffers`` is written where no
    gradient is recorded.

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

"""Undoing a run: the buffers before each launch, solved from those after it.

Launch k computes ``after = M_U u + M_K v + M_R r`` from the buffers u that it overwrites or that
are not read again, the buffers v that live on, and the raw outputs r of the call before it. Where
the state that this call was made at does not live on, some combination of the rows must give it
without the others and without r; the call is then made again, and the other u follow from the rows.
Both are linear maps, found here in float64 on the host, so a step is undone with one network call.

A sampler with one state has as many rows as states and cannot separate state from prediction:
nothing can be undone. Exactly invertible samplers carry further states, and their plans name them
(``Plan.partners``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...fused.linear.native import pack
from ...fused.linear.steps import linear_new
from ..instructions import PlanError
from ..running.loop import Cursor, RunState
from ..running.noise_sources import NoiseSource
from ..running.program import Call, Launch, Operand, Program
from .live_buffers import live

if TYPE_CHECKING:
    from ...models.denoiser import Denoiser

#: how far from exact a combination of rows may be, relative to its terms
_TOLERANCE = 1e-9


class UndoError(PlanError):
    """A run whose states cannot be recovered from those at its end."""


@dataclass(frozen=True)
class Solved:
    """``buffers[slots[j]] <- sum_i matrix[j][i] operands[i]``; an operand of kind ``after`` is a
    buffer after the launch, ``slot`` one before it."""

    slots: tuple[int, ...]
    operands: tuple[Operand, ...]
    matrix: tuple[tuple[float, ...], ...]

    def of(self, inputs: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
        """The buffers as new tensors of ``dtype``."""
        rows = [[(i, c) for i, c in enumerate(row) if c] for row in self.matrix]
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        firsts = [torch.tensor(row[0][1] if row else 0.0, dtype=wide) for row in rows]
        return list(linear_new(inputs, rows, firsts, dtype, packed=pack(rows)))


@dataclass(frozen=True)
class Undo:
    """How the launch after ``call`` is undone: the buffers that ``live`` on unchanged, the state of
    the call from the rows alone (None where it lives on), and the others once the call was made."""

    call: Call
    live: tuple[int, ...]
    state: Solved | None
    rest: Solved


@dataclass(frozen=True)
class Undone:
    """How a program is undone from its end to call ``first``, whose buffers are ``slots``.

    Attributes:
        program: lowered with ``keep=plan.partners``.
        first: the earliest call whose buffers can be recovered.
        steps: the launches after the calls ``first``, ``first + 1``, ..., undone.
    """

    program: Program
    first: int
    steps: tuple[Undo, ...]

    def slots(self, call: int) -> tuple[int, ...]:
        """The buffers that hold the run before call ``call`` is made."""
        return held(self.program, call)

    @property
    def paired(self) -> int:
        """The first call before which the run is held by as many buffers as its end."""
        count = 1 + len(self.program.kept)
        calls = range(self.first, len(self.program.calls))
        return next((k for k in calls if len(self.slots(k)) == count), len(self.program.calls))


def held(program: Program, call: int) -> tuple[int, ...]:
    """The buffers that a run needs to go on from call ``call``; the network's scaled input follows
    from its state."""
    if call == len(program.calls):
        return (program.result, *program.kept)
    due = program.calls[call]
    return tuple(s for s in live(program, call) if s != due.input or s == due.state)


@lru_cache(maxsize=32)
def undone(program: Program) -> Undone:
    """How ``program`` is undone; UndoError unless the buffers at its second call can be recovered,
    which says which call cannot be."""
    steps: list[Undo] = []
    for k in range(len(program.launches) - 1, 0, -1):
        try:
            steps.insert(0, _undo(program, k))
        except UndoError:
            if k > 1:
                raise
    return Undone(program, len(program.calls) - len(steps), tuple(steps))


def _undo(program: Program, k: int) -> Undo:
    launch, call = program.launches[k], program.calls[k - 1]
    before, after = held(program, k - 1), held(program, k)
    known = tuple(s for s in before if s in after and s not in launch.outs)
    unknown = [s for s in before if s not in known]
    lost = {o.number for o in launch.operands if o.kind == "slot"} - {*before}
    if lost:
        raise UndoError(f"{program.plan.name}: launch {k} reads the input of call {k - 1}")
    rows = [j for j, slot in enumerate(launch.outs) if slot in after]
    raws = [Operand("raw", i) for i in range(program.raws)]
    state = None
    if call.state in unknown:
        at = [Operand("slot", s) for s in unknown]
        state = _separated(launch, rows, [*at, *raws], at.index(Operand("slot", call.state)))
        unknown.remove(call.state)
    rest = _solved(launch, rows, [Operand("slot", s) for s in unknown])
    if (state is None and call.state not in known) or rest is None:
        raise UndoError(
            f"{program.plan.name or 'the plan'}: the states before call {k - 1} do not follow from "
            f"those after it"
        )
    return Undo(call, known, state, rest)


def _separated(launch: Launch, rows: list[int], columns: list[Operand], at: int) -> Solved | None:
    """The column ``at`` from the rows, the other columns cancelling; None where none does that."""
    matrix, scale = _scaled(launch, rows, columns)
    wanted = np.zeros(len(columns))
    wanted[at] = 1.0
    w = np.linalg.lstsq(matrix.T, wanted, rcond=None)[0] if rows else np.zeros(0)
    miss = np.abs(matrix.T @ w - wanted) / (1.0 + np.abs(matrix.T) @ np.abs(w))
    if miss.max() > _TOLERANCE:
        return None
    return _moved(launch, rows, (w / scale[at])[None], columns, [columns[at]])


def _solved(launch: Launch, rows: list[int], columns: list[Operand]) -> Solved | None:
    """The columns from the rows and everything else; None where the rows do not determine them."""
    if not columns:
        return Solved((), (), ())
    matrix, scale = _scaled(launch, rows, columns)
    if np.linalg.matrix_rank(matrix, tol=_TOLERANCE) < len(columns):
        return None
    return _moved(launch, rows, np.linalg.pinv(matrix) / scale[:, None], columns, columns)


def _scaled(
    launch: Launch, rows: list[int], columns: list[Operand]
) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients of ``columns`` in ``rows``, each column divided by its largest."""
    place = {o: i for i, o in enumerate(launch.operands)}
    matrix = np.array(
        [[launch.matrix[j][place[o]] if o in place else 0.0 for o in columns] for j in rows]
    ).reshape(len(rows), len(columns))
    scale = np.abs(matrix).max(axis=0, initial=0.0)
    scale[scale == 0.0] = 1.0
    return matrix / scale, scale


def _moved(
    launch: Launch,
    rows: list[int],
    weights: np.ndarray,
    columns: list[Operand],
    targets: list[Operand],
) -> Solved:
    """``targets = weights (after - rest of the rows)``; ``columns`` cancel or are solved for."""
    rest = [i for i, o in enumerate(launch.operands) if o not in columns]
    moved = -weights @ np.array([[launch.matrix[j][i] for i in rest] for j in rows])
    operands = [
        *(Operand("after", launch.outs[j]) for j in rows),
        *(launch.operands[i] for i in rest),
    ]
    matrix = np.hstack([weights, moved.reshape(len(targets), len(rest))])
    return Solved(
        tuple(o.number for o in targets), tuple(operands), tuple(map(tuple, matrix.tolist()))
    )


def resumed(how: Undone, denoiser: Denoiser, x: Tensor, partners: Sequence[Tensor]) -> Cursor:
    """The run from its first node on, from all states that ``Reversal`` recovers there: that of the
    plan's start, and the others."""
    program, k = how.program, how.paired
    slots: list[Tensor | None] = [x, *[None] * (program.slots - 1)]
    others = [slot for slot in how.slots(k) if slot != 0]
    for slot, value in zip(others, partners, strict=True):
        slots[slot] = value.clone()
    call = program.calls[k]
    if call.input != call.state:
        state = slots[call.state]
        assert state is not None
        slots[call.input] = state * call.scale
    return Cursor.at(RunState(program, slots, None), denoiser, k)


class Reversal:
    """A run undone call by call from its end: read ``x_in`` of the call that is ``due``, make the
    call, give its raw outputs to ``step``."""

    def __init__(
        self,
        how: Undone,
        ends: Sequence[Tensor],
        noise: NoiseSource | None,
        stop: int | None = None,
    ) -> None:
        slots = held(how.program, len(how.program.calls))
        self.how, self.noise = how, noise
        self.buffers = dict(zip(slots, ends, strict=True))
        self.dtype = ends[0].dtype
        self.due = len(how.program.calls) - 1
        self.stop = how.first if stop is None else stop
        self._state: Tensor | None = None

    @property
    def done(self) -> bool:
        """True when ``buffers`` are those before call ``stop``."""
        return self.due < self.stop

    @property
    def x_in(self) -> Tensor:
        """The network's input at the call that is due."""
        undo = self.how.steps[self.due - self.how.first]
        if self._state is None:
            solved = undo.state
            call = undo.call
            self._state = (
                self.buffers[call.state] if solved is None else self._values(solved, {}, ())[0]
            )
        scale = undo.call.scale
        return self._state if scale == 1.0 else self._state * scale

    def step(self, raws: Sequence[Tensor]) -> None:
        """Undo the launch after the call that is due, with the raw outputs of that call."""
        undo, x_in = self.how.steps[self.due - self.how.first], self.x_in
        state = x_in if self._state is None else self._state
        before = {slot: self.buffers[slot] for slot in undo.live} | {undo.call.state: state}
        values = self._values(undo.rest, before, raws) if undo.rest.slots else []
        self.buffers = before | dict(zip(undo.rest.slots, values, strict=True))
        self.due, self._state = self.due - 1, None

    def _values(
        self, solved: Solved, before: dict[int, Tensor], raws: Sequence[Tensor]
    ) -> list[Tensor]:
        inputs = []
        for kind, i in solved.operands:
            if kind == "after":
                inputs.append(self.buffers[i])
            elif kind == "slot":
                inputs.append(before[i] if i in before else self.buffers[i])
            elif kind == "raw":
                inputs.append(raws[i])
            else:
                assert self.noise is not None
                inputs.append(self.noise(i, next(iter(self.buffers.values()))))
        return solved.of(inputs, self.dtype)

"""The inputs of the network calls in a backward pass with recomputation: kept ones, those of a
stretch of calls that is run again, those of a run that is undone; or all values of the run, for the
gradient by the plan's parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...schedules.host_times import device_times
from ..running.loop import Cursor, RunState
from .plan_view import PlanView, entry_gradients, time_stencil
from .undone import Reversal, Undone

if TYPE_CHECKING:
    from .recomputed import Recomputed

Kept = list[Tensor]


class Inputs:
    """The inputs of the calls in the backward pass: kept ones, or those of one stretch of calls,
    run again from the buffers at its beginning."""

    def __init__(self, run: Recomputed, kept: Kept) -> None:
        self.run, self.kept = run, kept
        self.stretch: dict[int, Tensor] = {}

    def __getitem__(self, k: int) -> Tensor:
        run = self.run
        if run.every == 1:
            return self.kept[k - run.first]
        if k not in self.stretch:
            self.stretch = dict(self._again(k - (k - run.first) % run.every))
        return self.stretch.pop(k)

    def answered(self, k: int, raws: Sequence[Tensor], cotangents: Sequence[Tensor | None]) -> None:
        """Take note of the raw outputs of call k, made again, and of their cotangents: nothing
        depends on them here."""

    def launched(self, k: int, outs: Sequence[Tensor | None]) -> None:
        """Take note of the cotangents of the outputs of launch k: nothing depends on them here."""

    def of_plan(self) -> list[Tensor]:
        """The gradients of the plan's parameters: none here."""
        return []

    def _again(self, start: int) -> Iterator[tuple[int, Tensor]]:
        """Run the calls of the stretch from ``start`` again; (call, its input)."""
        run, place = self.run, 0
        for k in sorted(run.layout):
            if k == start:
                break
            place += sum(map(len, run.layout[k]))
        slots_kept, keys = run.layout[start]
        mine = iter(self.kept[place : place + len(slots_kept) + len(keys)])
        slots: list[Tensor | None] = [None] * run.program.slots
        for i in slots_kept:
            slots[i] = next(mine).clone()
        like = next(slot for slot in slots if slot is not None)
        slots[0] = like if slots[0] is None else slots[0]
        state = RunState(run.program, slots, run.noise, kept=dict(zip(keys, mine, strict=True)))
        cursor = Cursor.at(state, run.denoiser, start)
        stop = min(start + run.every, len(run.program.calls))
        with torch.no_grad():
            for k in range(start, stop):
                yield k, cursor.x_in.clone()
                if k + 1 < stop:
                    with run.states[k].again():
                        raws = run.ask(k, cursor.x_in)
                    cursor.advance(raws)


class Undoing(Inputs):
    """The inputs of the calls in the backward pass, recovered by undoing the run call by call."""

    def __init__(self, run: Recomputed, how: Undone, kept: Kept) -> None:
        super().__init__(run, kept)
        self.back = Reversal(how, kept[-1 - len(run.program.kept) :], run.noise, 1)

    def __getitem__(self, k: int) -> Tensor:
        while 0 < k < self.back.due:  # a call whose outputs do not reach the result
            due = self.back.due
            with torch.no_grad(), self.run.states[due].again():
                self.back.step(self.run.ask(due, self.back.x_in))
        with torch.no_grad():
            return self.back.x_in if k > 1 else self.kept[k]

    def answered(self, k: int, raws: Sequence[Tensor], cotangents: Sequence[Tensor | None]) -> None:
        """Undo the launch after call k with its raw outputs."""
        with torch.no_grad():
            if k > 1:
                self.back.step([raw.detach() for raw in raws])
            elif k == 1 and self.run.undoing is not None:
                wide = torch.promote_types(self.kept[1].dtype, torch.float32)
                wanted = self.kept[1].to(wide)
                error = (self.back.x_in.to(wide) - wanted).norm() / wanted.norm()
                self.run.undoing(float(error))


class Values(Inputs):
    """The inputs of the calls, and of every launch, from the kept outputs of all launches; and the
    gradient by the numbers of the program (``plan_view``)."""

    def __init__(self, run: Recomputed, view: PlanView, kept: Kept) -> None:
        super().__init__(run, kept)
        self.view = view
        self.raws: dict[int, Sequence[Tensor]] = {}
        self.entries: dict[int, list[Tensor]] = {}
        self.times: dict[int, Tensor] = {}
        places, place = {0: 0}, 1
        self.before: list[dict[int, int]] = []  # of each launch: slot -> place of its value
        for launch in run.program.launches:
            self.before.append(dict(places))
            places |= {slot: place + j for j, slot in enumerate(launch.outs)}
            place += len(launch.outs)

    def __getitem__(self, k: int) -> Tensor:
        return self.kept[self.before[k + 1][self.run.program.calls[k].input]]

    def answered(self, k: int, raws: Sequence[Tensor], cotangents: Sequence[Tensor | None]) -> None:
        """Keep the raw outputs for the launch after call k; take their derivative by its times."""
        self.raws[k] = [raw.detach() for raw in raws]
        starts, ends = self.run.times
        count = len(self.run.program.calls)
        for second, moves in enumerate(self.view.moving(k)):
            if moves:
                at = (ends if second else starts)[k]
                self.times[k + second * count] = self._by_time(k, at, bool(second), cotangents)

    def _by_time(
        self, k: int, at: Tensor, second: bool, cotangents: Sequence[Tensor | None]
    ) -> Tensor:
        """``sum <g, d raw / dt>`` of call k by central differences."""
        run, x_in, starts_ends = self.run, self[k], [self.run.times[0][k], self.run.times[1][k]]
        total = x_in.new_zeros((), dtype=torch.promote_types(x_in.dtype, torch.float32))
        for place, weight in time_stencil(run.denoiser, float(at), x_in.dtype):
            starts_ends[second] = device_times([place], x_in.device)[0]
            with torch.no_grad(), run.states[k].again():
                raws = run.raws_at(k, x_in, starts_ends[0], starts_ends[1], run.cond)
            for raw, g in zip(raws, cotangents, strict=True):
                if g is not None:
                    total = total + weight * (g * raw.to(g.dtype)).sum()
        return total

    def launched(self, k: int, outs: Sequence[Tensor | None]) -> None:
        """Take the derivative by the matrix of launch k."""
        values = []
        for kind, number in self.run.program.launches[k].operands:
            if kind == "slot":
                values.append(self.kept[self.before[k][number]])
            elif kind == "raw":
                values.append(self.raws[k - 1][number])
            else:
                assert self.run.noise is not None
                values.append(self.run.noise(number, self.kept[0]))
        self.entries[k] = entry_gradients(outs, values)
        self.raws.pop(k - 1, None)

    def of_plan(self) -> list[Tensor]:
        """The gradients of the view's parameters."""
        program = self.run.program
        zero, numbers = torch.zeros(()), list[Tensor]()
        for k, launch in enumerate(program.launches):
            numbers += self.entries.get(k, [zero] * (len(launch.operands) * len(launch.outs)))
        numbers += [self.times.get(k, zero) for k in range(2 * len(program.calls))]
        device = self.kept[0].device
        wide = torch.promote_types(self.kept[0].dtype, torch.float32)
        found = torch.stack([v.to(device, wide) for v in numbers]).cpu().double()
        return self.view.gradients(found)

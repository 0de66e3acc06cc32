"""Gradients of a run at bounded memory: the exact discrete adjoint with recomputed network calls.

The forward pass runs without a graph and keeps the input of every network call; or, with
``every > 1``, the live buffers at every so manyth call; or, with ``undo``, the inputs of the first
two calls and the states at the end, from which the run is undone. The backward pass walks the
transposed program; at each call it evaluates the network again, with a graph for this call alone,
and takes one vector-Jacobian product. Random state and autocast are restored for every repeated
call, so dropout draws what it drew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...schedules.host_times import device_times
from ..running.channels import network_raws
from ..running.finiteness import Watch, check_raws
from ..running.loop import Cursor, RunState
from ..running.noise_sources import NoiseSource
from ..running.program import Program
from ..running.random_state import CallState
from .leaves import Cond, Leaves
from .live_buffers import live
from .transposed import transposed
from .undone import Reversal, Undone

if TYPE_CHECKING:
    from ...models.denoiser import Denoiser

Kept = list[Tensor]


@dataclass
class Recomputed:
    """One run whose gradient is computed by recomputation.

    Attributes:
        program, denoiser, noise, cond: what runs. ``noise`` must return the same tensor whenever it
            is asked for the same key.
        check: stop at outputs that are not finite.
        first: the first call whose gradient counts; earlier ones are constants.
        every: keep the live buffers at every so manyth call; 1: the input of every call.
        undo: how the program is undone; then nothing else is kept.
        undoing: called at the end of the backward pass with the relative error of the recovered
            input of the second call.
        seen: called with the inputs (x_in, cond tensors, parameters) and the raw outputs of the
            first call that counts, made with a graph; it may refuse them.
    """

    program: Program
    denoiser: Denoiser
    noise: NoiseSource | None
    cond: Cond
    check: bool = True
    first: int = 0
    every: int = 1
    undo: Undone | None = None
    undoing: Callable[[float], None] | None = None
    seen: Callable[[Sequence[Tensor], Sequence[Tensor]], None] | None = None
    parameters: Sequence[Tensor] = ()
    states: dict[int, CallState] = field(default_factory=dict)
    layout: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    def run(self, x: Tensor, cond: Sequence[Tensor]) -> tuple[Tensor, Kept]:
        """Run from ``x`` without a graph. Return the result and the tensors that ``gradients``
        needs."""
        self.times = _times(self.program, x.device)
        cursor, kept = Cursor(self.program, self.denoiser, x, self.noise), []
        watch = Watch(self.program.calls, x) if self.check else None
        while (call := cursor.call) is not None:
            k = call.number
            if k >= self.first:
                self.states[k] = CallState.now(x.device, self.states.get(k - 1))
                kept += self._keep(cursor.state, k)
            asked = self._ask_first if k == self.first else self._ask
            raws = asked(k, cursor.x_in, cond)
            check_raws(raws, x, self.program.raws)
            if watch is not None:
                watch.see(raws)
            cursor.advance(raws)
        if watch is not None:
            watch.close(cursor.result)
        out = x.clone() if cursor.result is x else cursor.result
        return out, kept if self.undo is None else [*kept, out, *cursor.kept]

    def _keep(self, state: RunState, k: int) -> Kept:
        """Copies of what call k needs to be made again, if it is a call to keep something at."""
        if self.undo is not None and k > 1:
            return []
        if self.every == 1:
            return [state.slot(self.program.calls[k].input).clone()]
        if (k - self.first) % self.every:
            return []
        slots = tuple(live(self.program, k))
        keys = tuple(state.kept)
        self.layout[k] = (slots, keys)
        return [*(state.slot(i).clone() for i in slots), *(state.kept[key] for key in keys)]

    def _ask(self, k: int, x_in: Tensor, cond: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """Call k of the network with the run's condition."""
        return self._call(k, x_in, self.cond)

    def _ask_first(self, k: int, x_in: Tensor, cond: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Call k with a graph, which ``seen`` inspects; the graph is dropped."""
        if self.seen is None:
            return self._ask(k, x_in)
        with torch.enable_grad():
            leaves = Leaves(x_in, self.cond, cond, self.parameters)
            raws = self._call(k, leaves.x, leaves.cond)
            self.seen(leaves.all, raws)
        return tuple(raw.detach() for raw in raws)

    def _call(self, k: int, x_in: Tensor, cond: Cond) -> tuple[Tensor, ...]:
        call, (starts, ends) = self.program.calls[k], self.times
        to = None if call.to is None else ends[k]
        return network_raws(self.denoiser, x_in, starts[k], cond, call.channels, to)

    def gradients(
        self, cotangent: Tensor, kept: Kept, cond: Sequence[Tensor]
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """Return the gradient of x (None if earlier calls are constants), and those of the tensors
        ``cond`` followed by the parameters."""
        sums: list[Tensor | None] = [None] * (len(cond) + len(self.parameters))
        inputs = _Inputs(self, kept) if self.undo is None else _Undoing(self, self.undo, kept)

        def product(k: int, cotangents: Sequence[Tensor | None]) -> Tensor | None:
            with torch.enable_grad(), self.states[k].again():
                leaves = Leaves(inputs[k], self.cond, cond, self.parameters)
                raws = self._call(k, leaves.x, leaves.cond)
                inputs.answered(k, raws)
                pairs = [
                    (raw, g.to(raw.dtype))
                    for raw, g in zip(raws, cotangents, strict=True)
                    if g is not None and raw.requires_grad
                ]
                if not pairs:
                    return None
                outs, grads = zip(*pairs, strict=True)
                found = torch.autograd.grad(outs, leaves.all, grads, allow_unused=True)
            for i, g in enumerate(found[1:]):
                if g is not None:
                    known = sums[i]
                    sums[i] = g if known is None else known + g
            return found[0]

        first = 0 if self.first == 0 else self.first + 1
        live_ = transposed(self.program, cotangent, product, first=first)
        return (live_.get(0) if first == 0 else None), sums


class _Inputs:
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

    def answered(self, k: int, raws: Sequence[Tensor]) -> None:
        """Take note of the raw outputs of call k, made again: nothing depends on them here."""

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
                        raws = run._ask(k, cursor.x_in)
                    cursor.advance(raws)


class _Undoing(_Inputs):
    """The inputs of the calls in the backward pass, recovered by undoing the run call by call."""

    def __init__(self, run: Recomputed, how: Undone, kept: Kept) -> None:
        super().__init__(run, kept)
        self.back = Reversal(how, kept[-1 - len(run.program.kept) :], run.noise, 1)

    def __getitem__(self, k: int) -> Tensor:
        while 0 < k < self.back.due:  # a call whose outputs do not reach the result
            due = self.back.due
            with torch.no_grad(), self.run.states[due].again():
                self.back.step(self.run._ask(due, self.back.x_in))
        with torch.no_grad():
            return self.back.x_in if k > 1 else self.kept[k]

    def answered(self, k: int, raws: Sequence[Tensor]) -> None:
        """Undo the launch after call k with its raw outputs."""
        with torch.no_grad():
            if k > 1:
                self.back.step([raw.detach() for raw in raws])
            elif k == 1 and self.run.undoing is not None:
                wide = torch.promote_types(self.kept[1].dtype, torch.float32)
                wanted = self.kept[1].to(wide)
                error = (self.back.x_in.to(wide) - wanted).norm() / wanted.norm()
                self.run.undoing(float(error))


def _times(program: Program, device: torch.device) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The times of the calls, and their second times (0 where a call has none)."""
    starts = [float(call.node.t or 0.0) for call in program.calls]
    ends = [0.0 if call.to is None else float(call.to.t or 0.0) for call in program.calls]
    return device_times(starts, device), device_times(ends, device)

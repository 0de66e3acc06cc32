"""Gradients of a run at bounded memory: the exact discrete adjoint with recomputed network calls.

The forward pass runs without a graph and keeps the input of every network call; or, with
``every > 1``, the live buffers at every so manyth call; or, with ``undo``, the inputs of the first
two calls and the states at the end, from which the run is undone. The backward pass walks the
transposed program; at each call it evaluates the network again, with a graph for this call alone,
and takes one vector-Jacobian product. Random state and autocast are restored for every repeated
call, so dropout draws what it drew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from .inputs import Inputs, Kept, Undoing, Values
from .leaves import Cond, Leaves
from .live_buffers import live
from .plan_view import PlanView
from .transposed import transposed
from .undone import Undone

if TYPE_CHECKING:
    from ...models.denoiser import Denoiser


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
        view: the plan as a function of its parameters, whose gradients are wanted too; then the
            outputs of every launch are kept.
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
    view: PlanView | None = None
    states: dict[int, CallState] = field(default_factory=dict)
    layout: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    def run(self, x: Tensor, cond: Sequence[Tensor]) -> tuple[Tensor, Kept]:
        """Run from ``x`` without a graph. Return the result and the tensors that ``gradients``
        needs."""
        self.times = _times(self.program, x.device)
        fresh = self.view is not None
        cursor = Cursor(self.program, self.denoiser, x, self.noise, fresh=fresh)
        kept: Kept = [] if self.view is None else [x]
        watch = Watch(self.program.calls, x) if self.check else None
        while (call := cursor.call) is not None:
            k = call.number
            if k >= self.first:
                self.states[k] = CallState.now(x.device, self.states.get(k - 1))
            if k >= self.first or self.view is not None:
                kept += self._keep(cursor.state, k)
            asked = self._ask_first if k == self.first else self.ask
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
        if self.view is not None:
            return [state.slot(i) for i in self.program.launches[k].outs]
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

    def ask(self, k: int, x_in: Tensor, cond: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """Call k of the network with the run's condition."""
        return self._call(k, x_in, self.cond)

    def _ask_first(self, k: int, x_in: Tensor, cond: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Call k with a graph, which ``seen`` inspects; the graph is dropped."""
        if self.seen is None:
            return self.ask(k, x_in)
        with torch.enable_grad():
            leaves = Leaves(x_in, self.cond, cond, self.parameters)
            raws = self._call(k, leaves.x, leaves.cond)
            self.seen(leaves.all, raws)
        return tuple(raw.detach() for raw in raws)

    def _call(self, k: int, x_in: Tensor, cond: Cond) -> tuple[Tensor, ...]:
        starts, ends = self.times
        return self.raws_at(k, x_in, starts[k], ends[k], cond)

    def raws_at(
        self, k: int, x_in: Tensor, t: Tensor, to: Tensor, cond: Cond
    ) -> tuple[Tensor, ...]:
        """The raw outputs of call k at other times."""
        call = self.program.calls[k]
        second = None if call.to is None else to
        return network_raws(self.denoiser, x_in, t, cond, call.channels, second)

    def gradients(
        self, cotangent: Tensor, kept: Kept, cond: Sequence[Tensor]
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """Return the gradient of x (None if earlier calls are constants), and those of the tensors
        ``cond`` followed by the parameters and those of the plan."""
        sums: list[Tensor | None] = [None] * (len(cond) + len(self.parameters))
        inputs = self._inputs(kept)

        def product(k: int, cotangents: Sequence[Tensor | None]) -> Tensor | None:
            with torch.enable_grad(), self.states[k].again():
                leaves = Leaves(inputs[k], self.cond, cond, self.parameters)
                raws = self._call(k, leaves.x, leaves.cond)
                inputs.answered(k, raws, cotangents)
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
        watch = inputs.launched if self.view is not None else None
        live_ = transposed(self.program, cotangent, product, first=first, watch=watch)
        return (live_.get(0) if first == 0 else None), [*sums, *inputs.of_plan()]

    def _inputs(self, kept: Kept) -> Inputs:
        if self.view is not None:
            return Values(self, self.view, kept)
        return Inputs(self, kept) if self.undo is None else Undoing(self, self.undo, kept)


def _times(program: Program, device: torch.device) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The times of the calls, and their second times (0 where a call has none)."""
    starts = [float(call.node.t or 0.0) for call in program.calls]
    ends = [0.0 if call.to is None else float(call.to.t or 0.0) for call in program.calls]
    return device_times(starts, device), device_times(ends, device)

"""The loop that runs every plan: ``advance`` executes one launch, ``Cursor`` stops between two
network calls, and ``run`` drives a cursor with a denoiser.

Scalars stay on the host, the model times are one device tensor made before the loop, buffers are
allocated once, and nothing synchronises with the device. A state replaced by ``on_step`` is an
edit: it replaces the evaluated state, and its difference is added to later states at the same node,
because a corrector would undo it otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...checks import (
    ArgumentError,
    described,
    flag,
    members,
    shown,
    tensor,
    traced,
    transformed,
)
from ...fused.linear.eager import linear_traced
from ...fused.linear.steps import linear_new
from ...schedules.host_times import device_times
from ...schedules.node import Node
from ..instructions import PlanError
from ..plan import Plan
from .channels import network_raws
from .finiteness import NumericalError as NumericalError
from .finiteness import Watch, check_apart, check_count, check_raws
from .lowering import Call, Program, constant_program, lower
from .noise_sources import Noise as Noise
from .noise_sources import NoiseSource as NoiseSource
from .noise_sources import drawn
from .noise_sources import noise_source as noise_source
from .step_state import OnStep as OnStep
from .step_state import Outputs as Outputs
from .step_state import StepState as StepState
from .tensor_versions import edited, version

if TYPE_CHECKING:
    # other modules that drive plans import the type from here
    from ...models.denoiser import Denoiser as Denoiser


@dataclass
class RunState:
    """Buffers of one run: ``slots[0]`` is the caller's start state and is never written.

    ``fresh``: launches write into new tensors, so that a caller may keep what it was given, and
    autograd follows where it is enabled; raw outputs and noises are then the caller's to check.
    """

    program: Program
    slots: list[Tensor | None]
    noise: NoiseSource | None
    fresh: bool = False
    edits: dict[int, Tensor] = field(default_factory=dict)
    kept: dict[int, Tensor] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    firsts: Sequence[Sequence[Tensor]] = ()

    def __post_init__(self) -> None:
        self.dtype = self.slot(0).dtype
        if traced():
            self.fresh = True
            return
        self.firsts = self.program.firsts(
            torch.float64 if self.dtype == torch.float64 else torch.float32
        )

    def slot(self, index: int) -> Tensor:
        """Buffer ``index``, allocated at its first use."""
        buffer = self.slots[index]
        if buffer is None:
            buffer = self.slots[index] = torch.empty_like(self.slots[0])  # type: ignore[arg-type]
        return buffer

    def z(self, key: int, k: int) -> Any:
        """Noise ``key``; kept while a later launch reads it again."""
        z: Any = self.kept.pop(key, None)
        again = self.program.noise_until[key] > k
        if z is None:
            z = drawn(self.noise, key, self.slot(0), again)
        if again:
            self.kept[key] = z
        return z


def advance(state: RunState, k: int, raws: Sequence[Tensor]) -> Tensor:
    """Execute launch ``k``; ``raws`` are the outputs of call ``k - 1``. Returns the input of call
    ``k``, or the result."""
    launch, slots = state.program.launches[k], state.slots
    inputs: list[Any] = [
        slots[i] if kind == "slot" else raws[i] if kind == "raw" else state.z(i, k)
        for kind, i in launch.operands
    ]
    if launch.outs:
        if traced():
            _trace(state, k, inputs)
            return state.slot(state.program.result if launch.call is None else launch.call.input)
        rows, firsts, packed = state.program.terms[k], state.firsts[k], state.program.packed[k]
        if state.fresh:
            outputs = linear_new(inputs, rows, firsts, state.dtype, packed=packed)
            for index, out in zip(launch.outs, outputs, strict=True):
                slots[index] = out
        else:
            outputs = [state.slot(index) for index in launch.outs]
            check_apart(raws, outputs)
            with torch.no_grad() if torch.is_grad_enabled() else nullcontext():
                linear_new(inputs, rows, firsts, state.dtype, outputs, packed)
    for row, number, c in launch.edits:
        if number in state.edits:
            outputs[row].add_(state.edits[number], alpha=c)
    return state.slot(state.program.result if launch.call is None else launch.call.input)


def _trace(state: RunState, k: int, inputs: Sequence[Tensor]) -> None:
    """Launch ``k`` where torch traces: new tensors, nothing in place."""
    launch = state.program.launches[k]
    outputs = linear_traced(inputs, state.program.terms[k], state.dtype)
    for row, number, c in launch.edits:
        if number in state.edits:
            outputs[row] = torch.add(outputs[row], state.edits[number], alpha=c)
    for index, out in zip(launch.outs, outputs, strict=True):
        state.slots[index] = out


class Cursor:
    """A run controlled by its caller: read ``x_in`` and ``node``, call the network, give its raw
    outputs to ``step``, until ``done``."""

    def __init__(
        self,
        plan: Plan | Program,
        denoiser: Denoiser,
        x: Tensor,
        noise: Noise = None,
        *,
        fresh: bool = False,
    ) -> None:
        tensor("the state", x, axes=1)
        flag("fresh", fresh)
        if not isinstance(plan, Program):
            compiling = torch.compiler.is_compiling()
            plan = (constant_program if compiling else lower)(plan, denoiser)
        self.program = plan
        self.denoiser = denoiser
        slots: list[Tensor | None] = [x, *[None] * (self.program.slots - 1)]
        self.state = RunState(self.program, slots, noise_source(noise), fresh)
        self.index = 0
        self._value = advance(self.state, 0, ())

    @classmethod
    def at(cls, state: RunState, denoiser: Denoiser, k: int) -> Cursor:
        """The cursor of a run whose call ``k`` is due, from its buffers."""
        made = cls.__new__(cls)
        made.program, made.denoiser, made.state, made.index = state.program, denoiser, state, k
        made._value = state.slot(state.program.calls[k].input)
        return made

    @property
    def call(self) -> Call | None:
        """The network call that is due, None at the end."""
        return self.program.launches[self.index].call

    @property
    def done(self) -> bool:
        """True when no network call is left."""
        return self.call is None

    @property
    def x_in(self) -> Tensor:
        """The network's input: ``input_scale`` times the state at ``node``. It must not be written
        into (``models.complete`` gives a network a copy)."""
        if self.call is None:
            raise PlanError("the run is over; its state is in result")
        return self._value

    @property
    def node(self) -> Node:
        """The node of the current state."""
        return self.program.plan.end if self.call is None else self.call.node

    @property
    def x(self) -> Tensor:
        """The current state: the one to be evaluated, or the result (a buffer: copy it to keep
        it)."""
        return self._value if self.call is None else self.state.slot(self.call.state)

    @property
    def result(self) -> Tensor:
        """The final state; PlanError before the end."""
        if not self.done:
            raise PlanError(f"evaluation {self.index} of {self.program.plan.nfe} is still due")
        return self._value

    @property
    def kept(self) -> tuple[Tensor, ...]:
        """The values that the program was lowered to ``keep``; available at the end."""
        return tuple(self.state.slot(index) for index in self.program.kept)

    def select(self, rows: Tensor, noise: Noise = None) -> None:
        """Go on with the rows ``rows`` of the batch, integers (n,), in this order; a row may be
        repeated or left out.

        What a row carries goes with it: its state, the predictions kept by a multistep method,
        edits, and noises that are drawn already and read again later. Noise drawn from here on
        belongs to the place in the batch: two copies of a row part at the next noisy step.
        ``noise`` replaces the source, as it must where n is another number of rows and the source
        is one of a fixed batch. The raw outputs given to the next ``step`` must be those of the
        new rows. The start state that the caller gave is not written.

        ArgumentError unless ``rows`` are integers of the batch (out of range: checked on the CPU).
        """
        state, where = self.state, self._rows(rows)
        live, n = self.program.live[self.index], where.shape[0]
        first = state.slot(0)
        # a buffer that nothing reads again is made anew when it is written
        slots = [
            slot.index_select(0, where) if slot is not None and i in live else None
            for i, slot in enumerate(state.slots)
        ]
        if slots[0] is None:
            slots[0] = first if n == first.shape[0] else first.new_empty((n, *first.shape[1:]))
        state.slots = slots
        for held in (state.edits, state.kept):
            held.update({key: value.index_select(0, where) for key, value in held.items()})
        if noise is not None:
            state.noise = noise_source(noise)
        call = self.call
        self._value = state.slot(self.program.result if call is None else call.input)

    def _rows(self, rows: Tensor) -> Tensor:
        """``rows`` as int64 on the device of the state, checked."""
        tensor("rows", rows, axes=1, floating=False)
        size = self.state.slot(0).shape[0]
        if rows.ndim != 1 or rows.is_floating_point() or rows.dtype == torch.bool:
            raise ArgumentError(f"rows must be integers (n,), got {described(rows)}")
        known = rows.device.type == "cpu" and rows.numel() > 0
        if rows.numel() == 0 or (known and not 0 <= int(rows.min()) <= int(rows.max()) < size):
            raise ArgumentError(
                f"rows={shown(rows.tolist())}: must be one or more of 0 .. {size - 1}"
            )
        return rows.to(self.state.slot(0).device, torch.int64)

    def fork(self) -> Cursor:
        """A copy of this cursor with its own buffers; the two run on independently."""
        other = copy(self)
        state = self.state
        slots = [None if slot is None else slot.clone() for slot in state.slots]
        other.state = replace(state, slots=slots, edits=dict(state.edits), kept=dict(state.kept))
        where = next(i for i, slot in enumerate(state.slots) if slot is self._value)
        other._value = other.state.slot(where)
        return other

    def step(self, raws: Sequence[Tensor]) -> None:
        """Execute the next launch with the raw outputs of the network call that was due."""
        if self.index + 1 == len(self.program.launches):
            raise PlanError("the run is over")
        if self.state.fresh:
            check_count(raws, self.program.raws)
        else:
            check_raws(raws, self.state.slot(0), self.program.raws)
        self.advance(raws)

    def advance(self, raws: Sequence[Tensor]) -> None:
        """``step`` for raw outputs that have been checked."""
        self.index += 1
        self._value = advance(self.state, self.index, raws)

    def replace(self, x: Tensor) -> None:
        """Replace the current state by ``x``, an edit; a second edit at the same place adds to the
        first."""
        current, call = self.x, self.call
        tensor("an edit of the state (what on_step or callback returns)", x)
        if x.shape != current.shape:
            raise ArgumentError(
                f"an edit must keep the state's shape {tuple(current.shape)}, got {tuple(x.shape)}"
            )
        if call is not None:
            change, before = x.to(current) - current, self.state.edits.get(call.number)
            self.state.edits[call.number] = change if before is None else before + change
        # the caller's tensors are never written
        if self.state.fresh or current is self.state.slots[0]:
            current = self.state.slots[self.program.result if call is None else call.state] = x.to(
                current, copy=True
            )
            if call is None or call.input == call.state:
                self._value = current
        else:
            current.copy_(x)
        if call is None or call.input == call.state:
            return
        if self.state.fresh:
            self._value = self.state.slots[call.input] = current * call.scale
        else:
            torch.mul(current, call.scale, out=self.state.slot(call.input))


def run_plan(
    plan: Plan | Program,
    denoiser: Denoiser,
    x: Tensor,
    *,
    noise: Noise = None,
    cond: Tensor | Mapping[str, Tensor] | None = None,
    on_step: OnStep | None = None,
    check: bool = True,
    graph: bool = False,
) -> Tensor:
    """Run ``plan`` from state ``x`` (B, *shape), already scaled for the plan's first node; returns
    the state at its last node.

    ``noise`` gives the unit normals of a stochastic plan: a callable ``(key, like)``, or tensors by
    key. ``check`` stops a run whose network returns a NaN or infinity with NumericalError (at once
    on the CPU; elsewhere after the last step, without a sync in between). ``graph`` records the
    whole run for autograd; by default nothing is recorded.
    """
    members(
        "denoiser", denoiser, ("raws", "prediction", "coefficients", "input_scale"), "a denoiser"
    )
    flag("check", check)
    if on_step is not None and not callable(on_step):
        raise ArgumentError(f"on_step={shown(on_step)}: must be a function")
    # inside a transform of torch.func, gradients are the transform's own matter
    with torch.set_grad_enabled(graph or (transformed() and torch.is_grad_enabled())):
        cursor = Cursor(plan, denoiser, x, noise, fresh=graph)
        return run_cursor(cursor, denoiser, x, cond, on_step, check)


def run_cursor(
    cursor: Cursor,
    denoiser: Denoiser,
    x: Tensor,
    cond: Tensor | Mapping[str, Tensor] | None = None,
    on_step: OnStep | None = None,
    check: bool = True,
) -> Tensor:
    """Make the network calls that are left to ``cursor``; return its result. ``x`` (B, *shape) is a
    state of the run."""
    program = cursor.program
    calls = program.calls
    starts = _times(program.times, x.device)
    ends = () if program.second_times is None else _times(program.second_times, x.device)
    watch = Watch(calls[cursor.index :], x) if check else None
    while (call := cursor.call) is not None:
        to = None if call.to is None else ends[call.number]
        raws = network_raws(denoiser, cursor.x_in, starts[call.number], cond, call.channels, to)
        check_raws(raws, x, program.raws)
        if watch is not None:
            watch.see(raws)
        before = cursor.x.clone() if on_step is not None else x
        cursor.advance(raws)
        if on_step is not None:
            _offer(on_step, cursor, denoiser, call, before, raws)
    if watch is not None:
        watch.close(cursor.result)
    return cursor.result


def _times(numbers: Sequence[float], device: torch.device) -> Sequence[Tensor | float]:
    """``numbers`` on the device; under ``torch.compile`` as they are, constants of the graph."""
    return numbers if torch.compiler.is_compiling() else device_times(numbers, device)


def _offer(
    on_step: OnStep,
    cursor: Cursor,
    denoiser: Denoiser,
    call: Call,
    x: Tensor,
    raws: Sequence[Tensor],
) -> None:
    seen = cursor.x.clone()
    before = 0 if traced() else version(seen)
    step = StepState(
        call.number,
        call.node,
        cursor.node,
        x,
        seen,
        Outputs(denoiser, call.node, x, raws, call.channels),
        call.number + 1,
    )
    answer = on_step(step)
    if answer is not None:
        cursor.replace(answer)
    elif step.x_next is not seen or traced() or edited(seen, before):
        cursor.replace(step.x_next)

"""``Program``, a lowered plan: launches (fused linear steps) with a network call between two of
them. Made by ``lowering``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ...fused.linear.native import pack
from ...schedules.node import Node
from ..instructions import MAIN
from ..plan import Plan


class Operand(NamedTuple):
    """An input of a launch: ``slot`` (a buffer), ``raw`` (of the last Evaluate), ``noise`` (draw
    key) or ``edit`` (of an Evaluate)."""

    kind: str
    number: int


@dataclass(frozen=True, slots=True)
class Call:
    """The network call after a launch.

    Attributes:
        number: which of the plan's calls it is, from 0.
        node: where the network is called.
        state, input: the buffers of the state and of the network's input, ``scale`` times it.
        scale: the denoiser's ``input_scale``.
        channels: the channels that are read.
        to: the second time of a two-time network.
    """

    number: int
    node: Node
    state: int
    input: int
    scale: float
    channels: tuple[str, ...] = (MAIN,)
    to: Node | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """One fused linear step ``slots[outs[j]] <- sum_i matrix[j][i] operands[i]``, and the call that
    follows (None after the last).

    ``edits`` are ``(row, evaluation, coefficient)``: what to add where that evaluation's state was
    replaced.
    """

    outs: tuple[int, ...]
    operands: tuple[Operand, ...]
    matrix: tuple[tuple[float, ...], ...]
    edits: tuple[tuple[int, int, float], ...]
    call: Call | None


@dataclass(frozen=True)
class Program:
    """A lowered plan: ``launches[k]`` runs before call k, the last one gives ``result``. ``slots``
    is the number of buffers, the start state included; ``kept`` are the buffers of the values
    to keep."""

    plan: Plan
    launches: tuple[Launch, ...]
    result: int
    slots: int
    raws: int
    kept: tuple[int, ...] = ()

    def complete(self) -> Program:
        """The program itself with what a run reads from it made, which ``torch.compile`` cannot
        trace."""
        _ = self.calls, self.terms, self.noise_until, self.times, self.second_times, self.course
        return self

    @cached_property
    def times(self) -> tuple[float, ...]:
        """The time of each network call."""
        return tuple(float(call.node.t or 0.0) for call in self.calls)

    @cached_property
    def second_times(self) -> tuple[float, ...] | None:
        """The second time of each call, 0 where it has none; None where no call has one."""
        if not any(call.to is not None for call in self.calls):
            return None
        return tuple(0.0 if c.to is None else float(c.to.t or 0.0) for c in self.calls)

    @cached_property
    def course(self) -> tuple[tuple[int, ...], bool]:
        """``Plan.call_steps``, and whether the run goes from data to noise."""
        return self.plan.call_steps, self.plan.start.lam > self.plan.end.lam

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """The network calls in order."""
        return tuple(launch.call for launch in self.launches if launch.call is not None)

    @cached_property
    def terms(self) -> tuple[tuple[tuple[tuple[int, float], ...], ...], ...]:
        """Of each launch, by output: (place among the operands, coefficient) where that is not
        0."""
        return tuple(
            tuple(tuple((i, c) for i, c in enumerate(row) if c != 0.0) for row in x.matrix)
            for x in self.launches
        )

    @cached_property
    def packed(self) -> tuple[bytes, ...]:
        """The ``terms`` of each launch as the compiled kernel reads them."""
        return tuple(pack(rows) for rows in self.terms)

    def firsts(self, dtype: torch.dtype) -> tuple[tuple[Tensor, ...], ...]:
        """Of each launch, by output: the first of its ``terms``' coefficients as a tensor in
        ``dtype`` (made once)."""
        made = self._firsts.get(dtype)
        if made is None:
            with torch.inference_mode(False):
                ready = iter(
                    torch.tensor(
                        [row[0][1] if row else 0.0 for launch in self.terms for row in launch],
                        dtype=dtype,
                    ).unbind(0)
                )
                made = self._firsts[dtype] = tuple(
                    tuple(next(ready) for _ in launch) for launch in self.terms
                )
        return made

    @cached_property
    def _firsts(self) -> dict[torch.dtype, tuple[tuple[Tensor, ...], ...]]:
        return {}

    @cached_property
    def noisy_calls(self) -> tuple[int, ...]:
        """The calls after which a launch reads a noise that no launch before it read."""
        seen = {o.number for o in self.launches[0].operands if o.kind == "noise"}
        found = []
        for k, launch in enumerate(self.launches[1:]):
            fresh = {o.number for o in launch.operands if o.kind == "noise"} - seen
            seen |= fresh
            found += [k] if fresh else []
        return tuple(found)

    @cached_property
    def inherited(self) -> frozenset[int]:
        """Evaluations whose state, where it is replaced, changes a later launch."""
        return frozenset(number for launch in self.launches for _, number, _ in launch.edits)

    @cached_property
    def live(self) -> tuple[frozenset[int], ...]:
        """Of each launch: the buffers whose values are read after it."""
        needed = {self.result, *self.kept}
        found = [frozenset(needed)]
        for k in range(len(self.launches) - 1, 0, -1):
            launch, call = self.launches[k], self.launches[k - 1].call
            needed = needed - set(launch.outs)
            needed |= {o.number for o in launch.operands if o.kind == "slot"}
            if call is not None:
                needed |= {call.state, call.input}
            found.append(frozenset(needed))
        return tuple(reversed(found))

    @property
    def shape(self) -> tuple[int, int]:
        """The widest launch as (inputs, outputs): what a kernel must hold."""
        return max(len(x.operands) for x in self.launches), max(len(x.outs) for x in self.launches)

    @cached_property
    def noise_until(self) -> dict[int, int]:
        """The last launch that reads each noise key."""
        return {
            o.number: k
            for k, launch in enumerate(self.launches)
            for o in launch.operands
            if o.kind == "noise"
        }

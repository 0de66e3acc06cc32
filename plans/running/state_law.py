"""The law of the next state of a live run: what a cursor's buffers and the predictions of the due
call say of the state that its next step will reach.

    x_next = mean + std xi,   xi ~ N(0, 1)

``mean`` is the row of the next launch without its new noises, ``std`` the norm of their
coefficients. A noise that the run has drawn and keeps for later is part of the mean: the law is
conditional on the run. ``plan.transitions`` is conditional on the recorded states alone; the two
are the same where each state tells its noise, that is unless several noises enter one state and a
later one reads them again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...checks import ArgumentError, instance
from ...fused.linear.eager import linear_combination
from ...schedules.kinds import convert
from ..instructions import MAIN, PlanError
from ..transition import normal_log_prob
from .channels import channel_numbers
from .finiteness import check_raws
from .loop import Cursor


class StateLaw(NamedTuple):
    """``N(mean, std^2)`` of the next state: ``mean`` (B, *shape) in float32 or better, ``std`` a
    number, 0 where the step draws no noise."""

    mean: Tensor
    std: float

    def log_prob(self, x_next: Tensor) -> Tensor:
        """``log p(x_next)`` (B,), summed over the elements of a sample. ArgumentError where
        ``std`` is 0 or the shape is another."""
        if self.std == 0.0:
            raise ArgumentError("std=0: the step draws no noise, so its state has no density")
        if x_next.shape != self.mean.shape:
            raise ArgumentError(
                f"x_next has shape {tuple(x_next.shape)}, the state {tuple(self.mean.shape)}"
            )
        return normal_log_prob(x_next, self.mean, self.std)


def next_state(cursor: Cursor, raws: Sequence[Tensor]) -> StateLaw:
    """The law of the state after ``cursor.step(raws)``, from the raw outputs of the call that is
    due. Draws no noise, changes nothing, and is differentiable in ``raws``.

    PlanError at the end of the run.
    """
    instance("cursor", cursor, Cursor, "a Cursor")
    if cursor.done:
        raise PlanError("the run is over: no state is left")
    program, state, k = cursor.program, cursor.state, cursor.index + 1
    check_raws(raws, cursor.x, program.raws)
    launch = program.launches[k]
    target = program.result if launch.call is None else launch.call.state
    wide = torch.promote_types(state.dtype, torch.float32)
    if target not in launch.outs:  # a state that an earlier launch has made
        return StateLaw(state.slot(target).to(wide, copy=True), 0.0)
    row = launch.outs.index(target)
    inputs: list[Tensor] = []
    numbers: list[float] = []
    spread: list[float] = []
    for i, c in program.terms[k][row]:
        kind, number = launch.operands[i]
        if kind == "noise" and number not in state.kept:
            spread.append(c)
            continue
        held = state.kept[number] if kind == "noise" else None
        inputs.append(
            raws[number] if kind == "raw" else state.slot(number) if held is None else held
        )
        numbers.append(c)
    for at, number, c in launch.edits:
        if at == row and number in state.edits:
            inputs.append(state.edits[number])
            numbers.append(c)
    mean = linear_combination(inputs or [cursor.x], numbers or [0.0], wide)
    return StateLaw(mean, math.hypot(*spread))


class Innovation(NamedTuple):
    """How the next step of a run draws: ``noises``, the coefficient of each of its new noises in
    the next state, and ``gain``, the factor of the due call's prediction of x0 (main channel) in
    the mean."""

    noises: dict[int, float]
    gain: float


def innovation(cursor: Cursor) -> Innovation:
    """The new noises of the next step of ``cursor`` and the weight of its prediction. A step whose
    state an earlier launch has made has neither.

    Where a step reads several channels, ``gain`` is the least-squares factor of the main one.
    PlanError at the end of the run.
    """
    call = cursor.call
    if call is None:
        raise PlanError("the run is over: no state is left")
    program, k = cursor.program, cursor.index + 1
    launch = program.launches[k]
    target = program.result if launch.call is None else launch.call.state
    if target not in launch.outs:
        return Innovation({}, 0.0)
    noises: dict[int, float] = {}
    raws: dict[int, float] = {}
    for i, c in program.terms[k][launch.outs.index(target)]:
        kind, number = launch.operands[i]
        if kind == "noise" and number not in cursor.state.kept:
            noises[number] = c
        elif kind == "raw":
            raws[number] = c
    _, qs = channel_numbers(cursor.denoiser, float(call.node.t or 0.0), MAIN)
    _, b = convert(cursor.denoiser.prediction, "x0", call.node)
    total = sum((b * q) ** 2 for q in qs)
    along = sum(raws.get(j, 0.0) * b * q for j, q in enumerate(qs))
    return Innovation(noises, along / total if total else 0.0)

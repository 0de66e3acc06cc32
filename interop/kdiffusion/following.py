"""Runs a k-diffusion function: its model as a denoiser, and a plan with its callback and its noises
in k-diffusion's order.

Each step is: network call, callback, noises, next state. The callback's dictionary holds the state
itself (never the caller's ``x``), which a callback may modify in place;
``fewstep.interop.kdiffusion`` documents the effect of an edit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentTypeError
from ...plans.instructions import Combine, Evaluate
from ...plans.plan import Plan
from ...plans.running.finiteness import Watch, check_raws
from ...plans.running.loop import Cursor
from ...schedules import EDM
from .arguments import floating
from .noises import Draws

Callback = Callable[[dict[str, Any]], Any]
Model = Callable[..., Tensor]


class KDiffusionModel:
    """k-diffusion's model as a Denoiser: predicts x0 on ``alpha = 1, sigma = t``."""

    prediction = "x0"

    def __init__(self, model: Model, extra: Mapping[str, Any], schedule: EDM) -> None:
        self.model, self.extra, self.schedule = model, dict(extra), schedule
        self.shape: tuple[int, ...] | None = None

    def input_scale(self, t: float) -> float:
        """Always 1: the model scales its input itself."""
        return 1.0

    def coefficients(self, t: float) -> tuple[float, tuple[float, ...]]:
        """(0, (1,)): the model's output is x0."""
        return 0.0, (1.0,)

    def raws(self, x_in: Tensor, t: Any, cond: Any = None) -> tuple[Tensor, ...]:
        """One call of the model, on a copy of the state: a model may write into its input."""
        batch = x_in.shape[0]
        # a fill: nothing waits
        sigma = (
            t.to(x_in) * x_in.new_ones(batch)
            if isinstance(t, Tensor)
            else x_in.new_full((batch,), t)
        )
        answer = self.model(x_in.clone(), sigma, **self.extra)
        if not isinstance(answer, Tensor):
            raise ArgumentTypeError(
                f"the model must return a tensor, the prediction of x0; got {type(answer).__name__}"
            )
        return (answer,)

    def __call__(self, x: Tensor, t: Any, cond: Any = None) -> Tensor:
        """x0 at state ``x`` and noise level ``t``."""
        return self.raws(x, t)[0]


def step_starts(plan: Plan) -> dict[int, int]:
    """Map the number of an evaluation to its step, for the evaluation that begins each step.

    It is the first evaluation after the last state declared at the step's first node, unless that
    state precedes the node (a corrector declares a state at the node after the evaluation there):
    then it is the last evaluation at the node.
    """
    number, evaluations = 0, []
    claimed = {plan.start: -1}
    for position, code in enumerate(plan.code):
        if isinstance(code, Evaluate):
            evaluations.append((position, number, code))
            number += 1
        elif isinstance(code, Combine) and code.node is not None:
            claimed[code.node] = position
    found: dict[int, int] = {}
    for i, node in enumerate(plan.nodes[:-1]):
        after = [
            (k, e) for position, k, e in evaluations if position > claimed.get(node, len(plan.code))
        ]
        there = [k for _, k, e in evaluations if e.node == node]
        if after and after[0][1].node.sigma >= node.sigma:
            found.setdefault(after[0][0], i)
        elif there:
            found.setdefault(there[-1], i)
    return found


@dataclass(frozen=True, eq=False)
class Shown:
    """The callback, and what it is given beside ``x`` and ``denoised``.

    ``sigmas``: the level of each step as k-diffusion shows it; ``hats``: the same as its sigma_hat,
    which is that of the network call (churn makes floating-point numbers of integers). ``more``:
    further entries of a step's dictionary. ``slope_first``: k-diffusion computes the slope of the
    step before the callback, so an edit of ``x`` moves the state and leaves the slope, and one of
    ``denoised`` is lost; otherwise the slope is that of the edited values.
    """

    callback: Callback
    sigmas: Tensor
    hats: Tensor
    slope_first: bool = False
    more: Callable[[int], dict[str, Any]] | None = None

    def show(self, i: int, level: float, evaluated: float, x: Tensor, denoised: Tensor) -> Tensor:
        """Call the callback for step ``i`` at ``level``, whose network call is at the level
        ``evaluated``; the prediction to go on with."""
        sigma, hat = self.sigmas[i], self.hats[i]
        if evaluated != level:
            hat = torch.full((), evaluated, dtype=floating(hat).dtype, device=hat.device)
        further = {} if self.more is None else self.more(i)
        if not self.slope_first:
            self.callback(
                {"x": x, "i": i, "sigma": sigma, "sigma_hat": hat, "denoised": denoised, **further}
            )
            return denoised
        before = x.clone()
        self.callback(
            {
                "x": x,
                "i": i,
                "sigma": sigma,
                "sigma_hat": hat,
                "denoised": denoised.clone(),
                **further,
            }
        )
        return denoised + (x - before)


def run_with_callback(
    plan: Plan, model: KDiffusionModel, x: Tensor, draws: Draws, shown: Shown | None = None
) -> Tensor:
    """Run ``plan`` from ``x`` (B, *shape); returns the state at its last node. NumericalError where
    the model returns a NaN or infinity."""
    draws.before(0, x)
    cursor = Cursor(plan, model, x if shown is None else x.clone(), draws.take, fresh=True)
    watch = Watch(cursor.program.calls, x)
    starts = step_starts(plan) if shown is not None else {}
    while (call := cursor.call) is not None:
        state = cursor.x
        raws = model.raws(cursor.x_in, call.node.t)
        check_raws(raws, x, 1)
        watch.see(raws)
        if shown is not None and call.number in starts:
            i = starts[call.number]
            raws = (shown.show(i, plan.nodes[i].sigma, call.node.sigma, state, raws[0]),)
        draws.before(call.number + 1, state)
        cursor.step(raws)
    watch.close(cursor.result)
    return cursor.result

"""``sample(..., record=True)``: the states of a run, as ``transition_log_prob`` reads them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ..checks import ArgumentError, flag
from ..models.base import BaseDenoiser
from ..plans.instructions import PlanError
from ..plans.plan import Plan
from ..plans.running.loop import Noise, OnStep, StepState
from ..plans.running.lowering import lower
from ..plans.running.tensor_versions import edited, version
from .memory import check_room
from .paths import layers


class Recorder:
    """Keeps x_0, ..., x_nfe of one run of ``plan`` from ``x`` (B, *shape) in ``states``
    (nfe + 1, B, *shape), allocated once: the state of the first network call, that of every later
    call, and the result, each after the callback's edit.

    Raises ArgumentError if the states exceed the memory of the device, or if the noises are not
    independent.
    """

    def __init__(
        self, plan: Plan, denoiser: BaseDenoiser, x: Tensor, noise: Noise | str = None
    ) -> None:
        if noise == "brownian":
            check_independent(plan)
        check_room(x.shape, x.device, x.dtype, copies=plan.nfe + 1)
        self.states = torch.empty((plan.nfe + 1, *x.shape), dtype=x.dtype, device=x.device)
        self.name = plan.name or "plan"
        self.bound = _bound(plan, denoiser)

    def watch(self, on_step: OnStep | None) -> OnStep:
        """Return ``on_step`` with the recording around it."""

        def watch(step: StepState) -> Tensor | None:
            if step.index == 0:
                self.states[0].copy_(step.x)
            seen, k, before = step.x_next, step.index + 1, version(step.x_next)
            # torch does not count the writes to tensors made in inference mode
            kept = seen.clone() if k in self.bound and seen.is_inference() else None
            answer = None if on_step is None else on_step(step)
            after = step.x_next if answer is None else answer
            if k in self.bound and (after is not seen or edited(seen, before, kept)):
                raise ArgumentError(
                    f"record=True: the callback replaced the state of call {k}, but {self.name} "
                    "makes later states from other values of that step as well, which the recorded "
                    "states do not tell; leave this state as it is, use another sampler, or do not "
                    "record"
                )
            if isinstance(after, Tensor) and after.shape == seen.shape:  # else the loop refuses it
                self.states[k].copy_(after.detach())
            return answer

        return watch


def _bound(plan: Plan, denoiser: BaseDenoiser) -> frozenset[int]:
    """Return the calls whose state, where it is replaced, no longer tells the law of a later noisy
    step: the step keeps the noise of this state, or corrects it."""
    try:
        found = plan.transitions
    except PlanError:
        return frozenset()
    told = {t.index + 1 for t in found if t.shared} | lower(plan, denoiser).inherited
    return frozenset(k for k in told if found and k <= found[-1].index)


def check_record(record: bool, info: bool) -> None:
    """Raise ArgumentError unless both are flags, and if ``record`` is True without ``info``."""
    flag("info", info)
    if flag("record", record) and not info:
        raise ArgumentError("record=True needs info=True: the states are returned as info.states")


def check_recordable(name: str, record: bool) -> None:
    """Raise ArgumentError if ``record`` is True; ``name`` is a driver."""
    if record:
        raise ArgumentError(
            f"record=True: {name} is a driver, whose steps depend on the data, so its states have "
            "no plan and no transition densities; use a sampler with a plan"
        )


def check_independent(plan: Plan) -> None:
    """Raise ArgumentError if draws of ``plan`` overlap, whose noises on one Brownian path are not
    independent."""
    spans = [
        (layer, draw.start.lam, draw.end.lam)
        for layer, draw in zip(layers(plan.draws), plan.draws, strict=True)
        if layer is not None
    ]
    spans.sort()
    for (layer, _, stop), (other, start, _) in pairwise(spans):
        if layer == other and start < stop:
            raise ArgumentError(
                f"record=True with noise='brownian': {plan.name or 'the plan'} draws noises over "
                "overlapping intervals, which are correlated on one path; transition densities are "
                "those of independent noise: use noise='independent'"
            )

"""Runs of exactly invertible samplers undone from data, and continued from the states found.

A sampler such as ``edict`` carries two states. From data x0 the second one at the end is x0 too;
or, where it belongs to the node before (``bdia``, ``belm``), x0 moved there by an Euler step. The
run is undone from these two (``plans.transforms.undone``), and the two states at its beginning lead
back to them to rounding: that at the first node, and the other after the first network call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..models.base import BaseDenoiser, RunFacts
from ..plans.instructions import Combine
from ..plans.plan import Plan
from ..plans.running.channels import network_raws
from ..plans.running.finiteness import check_raws
from ..plans.running.loop import OnStep, run_cursor, run_plan
from ..plans.running.lowering import lower
from ..plans.transforms.undone import Reversal, Undone, resumed, undone
from ..samplers import registry
from ..schedules.grids.construction import Grid
from ..schedules.host_times import device_times
from .arguments import StateError
from .reversal import reversed_plan

Cond = Tensor | Mapping[str, Tensor] | None
#: called with the number of network calls made, and of all
Report = Callable[[int, int], None]


def exact_program(plan: Plan, denoiser: BaseDenoiser) -> Undone:
    """How the run of ``plan`` is undone to its first node. Raises SamplerError where its two states
    do not begin there."""
    how = undone(lower(plan, denoiser, plan.partners))
    if how.paired == len(how.program.calls):
        raise registry.SamplerError(
            f"{plan.name}: {plan.steps} step leaves nothing to undo; use two steps or more"
        )
    if 0 not in how.slots(how.paired):
        raise registry.SamplerError(
            f"{plan.name} steps in rho and cannot be inverted up to alpha = 0; begin later, with "
            "start=, or use flow_belm"
        )
    return how


def undo_run(
    how: Undone, grid: Grid, denoiser: BaseDenoiser, x: Tensor, cond: Cond, report: Report | None
) -> tuple[Tensor, tuple[Tensor, ...], int]:
    """Undo a run that ended in ``x`` (B, *shape). Return the state at the first node, the other
    states there, and the number of network calls."""
    plan, calls = how.program.plan, how.program.calls
    total = len(calls) - how.paired
    with torch.no_grad():
        ends, made = [x], 0
        for value in plan.partners:
            partner, more = _partner(plan, value, grid, denoiser, x, cond)
            ends.append(partner)
            made += more
        total += made
        back = Reversal(how, ends, None, how.paired)
        steps = plan.call_steps[how.paired :][::-1]
        own = denoiser.for_run(RunFacts((), steps, True))
        times = device_times([float(call.node.t or 0.0) for call in calls], x.device)
        while not back.done:
            call = calls[back.due]
            raws = network_raws(own, back.x_in.clone(), times[call.number], cond, call.channels)
            check_raws(raws, x, how.program.raws)
            back.step(raws)
            made += 1
            if report is not None:
                report(made, total)
    others = tuple(value for slot, value in back.buffers.items() if slot != 0)
    return back.buffers[0], others, made


def _partner(
    plan: Plan, value: int, grid: Grid, denoiser: BaseDenoiser, x: Tensor, cond: Cond
) -> tuple[Tensor, int]:
    """The state ``value`` at the end or the node before it that goes with the result ``x``, and the
    network calls made for it."""
    nodes = {i.out: i.node for i in plan.code if isinstance(i, Combine)}
    if nodes.get(value, plan.start) == plan.end:
        return x.clone(), 0
    last = grid.tail(grid.steps - 1)
    name = "flow_euler" if registry.get(plan.name).on[0] == "flow" else "euler"
    step = reversed_plan(name, {}, last)
    own = denoiser.for_run(RunFacts((), step.call_steps, True))
    return run_plan(step, own, x, cond=cond), step.nfe


def error_of(found: Tensor, wanted: Tensor) -> tuple[float, Tensor]:
    """Largest absolute difference, and the root mean square of each sample (B,)."""
    wide = torch.promote_types(found.dtype, torch.float32)
    difference = (found.to(wide) - wanted.to(wide)).flatten(1)
    return float(difference.abs().max()), difference.square().mean(1).sqrt()


def continue_run(
    plan: Plan,
    denoiser: BaseDenoiser,
    x: Tensor,
    partners: Sequence[Tensor],
    cond: Cond = None,
    on_step: OnStep | None = None,
    check: bool = True,
) -> Tensor:
    """Run ``plan`` from the states ``x`` and ``partners`` that ``undo_run`` found; the calls before
    them are not made."""
    how = exact_program(plan, denoiser)
    own = denoiser.for_run(RunFacts((), plan.call_steps[how.paired :]))
    with torch.no_grad():
        return run_cursor(resumed(how, own, x, partners), own, x, cond, on_step, check)


def check_partners(
    plan: Plan, x: Tensor, partners: Sequence[Tensor], grad: str | None = None
) -> None:
    """Raise StateError unless ``partners`` go with the plan and the state ``x``."""
    if grad is not None:
        raise StateError(f"partners= with grad={grad!r}: a run is differentiated from one state")
    if len(partners) != len(plan.partners):
        raise StateError(
            f"{plan.name or 'the plan'} carries {len(plan.partners)} states beside its result, but "
            f"partners= holds {len(partners)}; pass what invert returned in info.partners"
        )
    for partner in partners:
        if not isinstance(partner, Tensor) or partner.shape != x.shape or partner.dtype != x.dtype:
            raise StateError(
                f"partners= must be tensors like the state, {x.dtype} {tuple(x.shape)}"
            )

"""``grad=`` of ``sample`` and ``run``: gradients of the very sampler that runs.

    full             autograd's graph of the whole run: memory grows with the number of calls
    checkpoint       the exact discrete adjoint: keeps the input of every network call, and makes
                     each call once more in the backward pass, with one graph alive at a time
    checkpoint:sqrt  keeps the live buffers at every sqrt(N)-th call; two more calls each
    reversible       for exactly invertible samplers: keeps a few states, whatever the number of
                     calls, and undoes the run in the backward pass (``plans.transforms.undone``);
                     what this loses to rounding is measured (``info.reconstruction`` of
                     ``sample``), and warned of above 1e-3
    truncated:K      ``checkpoint`` through the last K grid steps (DRaFT-K, Clark et al. 2023, arXiv
                     2309.17400); earlier steps are constants
    adjoint          the continuous adjoint of the ODE, solved on the nodes of the run from data to
                     noise by ``dpm_solver_2m`` (``flow_heun`` for a flow that starts at alpha = 0);
                     ``adjoint:SAMPLER`` names another deterministic sampler. Keeps the result only

The first four give the same numbers up to rounding. ``adjoint`` has an error of the order of its
solver. Noises are constants (pathwise gradients); ``full`` follows those that require grad.

``checkpoint`` and ``truncated:K`` also give gradients by the plan's own coefficients, times and
labels, ``plan_parameters=`` (``plans.transforms.plan_view``). They keep the outputs of every launch
then. The network's derivative by its time is a difference of fourth order, four more calls each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from typing_extensions import override

from ..checks import ArgumentError, instance, shown, unknown
from ..models.base import MAIN, BaseDenoiser
from ..models.denoiser import Condition, Time
from ..models.wrapper import Wrapper
from ..plans.plan import Plan
from ..plans.running.loop import OnStep, run_plan
from ..plans.running.lowering import Program, lower
from ..plans.running.noise_sources import Noise, NoiseSource, noise_source
from ..plans.transforms.continuous_adjoint import ContinuousAdjoint
from ..plans.transforms.gradients import (
    GradientError,
    Reconstruction,
    inspect_input,
    run_recomputed,
    run_with_adjoint,
)
from ..plans.transforms.leaves import Cond, wanted
from ..plans.transforms.plan_view import PlanView, time_stencil
from ..plans.transforms.recomputed import Recomputed
from ..plans.transforms.undone import UndoError, Undone, undone
from ..samplers import registry
from ..schedules.grids.construction import Grid
from .reversal import reversed_plan

#: modes that take no word after a colon
_PLAIN = ("full", "checkpoint", "checkpoint:sqrt", "reversible", "adjoint")
MODES = (*_PLAIN[:-1], "truncated:K", "adjoint", "adjoint:SAMPLER")


def steps_of(grad: object) -> int | None:
    """Check ``grad``; return K of ``truncated:K``, else None. Raises ArgumentError with the nearest
    match."""
    name, colon, count = str(grad).partition(":")
    if grad in _PLAIN or (name == "adjoint" and count):
        return None
    if name == "truncated" and colon and count.isdecimal() and int(count) > 0:
        return int(count)
    raise ArgumentError(unknown("grad", grad, MODES) + "; K is a number of grid steps, 1 or more")


def check_grad(
    grad: str | None, parameters: Iterable[Tensor] | None, callback: object
) -> list[Tensor] | None:
    """Check the arguments of a differentiable run before anything is built; return
    ``parameters``."""
    if grad is None:
        if parameters is not None:
            raise ArgumentError("parameters= without grad=: name a mode, such as 'checkpoint'")
        return None
    steps_of(grad)
    if torch.is_inference_mode_enabled() or not torch.is_grad_enabled():
        raise GradientError(
            f"grad={grad!r} inside torch.no_grad() or torch.inference_mode(): nothing can be "
            "differentiated there"
        )
    if callback is not None and grad != "full":
        raise ArgumentError(
            f"grad={grad!r} with a callback, a progress report or record=: the states of a run "
            "whose calls are made again cannot be replaced; use grad='full'"
        )
    if parameters is None:
        return None
    given = list(parameters)
    bad = [p for p in given if not isinstance(p, Tensor) or not (p.requires_grad and p.is_leaf)]
    if bad:
        raise ArgumentError(
            f"parameters= holds {shown(bad[0])}: all must be leaf tensors that require grad"
        )
    return given


def check_reconstruction(lost: Reconstruction | None, grad: str | None) -> None:
    """Raise ArgumentError unless ``lost`` goes with the mode."""
    if lost is None:
        return
    instance("reconstruction", lost, Reconstruction, "an engine.Reconstruction")
    if grad != "reversible":
        raise ArgumentError(
            f"reconstruction= with grad={grad!r}: only grad='reversible' recovers states"
        )


def check_differentiable(sampler: str, grad: str | None, plan_parameters: object) -> None:
    """Raise GradientError for ``grad`` or ``plan_parameters`` with a driver."""
    if plan_parameters is not None:
        raise GradientError(f"plan_parameters=: {sampler} is a driver, which has no plan")
    if grad is not None:
        raise GradientError(
            f"grad={grad!r}: {sampler} is a driver, whose steps depend on the data and have no "
            "transpose; use a sampler with a plan (fewstep.samplers.names('plan'))"
        )


@dataclass(frozen=True)
class Differentiation:
    """How a run is differentiated.

    ``grad``: one of ``MODES``; ``parameters`` and ``plan_parameters``: see ``sample``;
    ``stateful``: the model keeps values between calls, so that no call can be made again.
    ``lost``: holds the error of ``reversible``.
    """

    grad: str
    parameters: Sequence[Tensor] | None = None
    stateful: bool = False
    plan_parameters: Mapping[str, Tensor] | None = None
    lost: Reconstruction | None = None


class Inspected(Wrapper):
    """A model whose first call with an input that requires grad is inspected: GradientError if its
    output does not depend on the input for autograd."""

    same_predictions = True
    due = True

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        made = super().raws(x_in, t, cond, channels, to)
        if self.due and x_in.requires_grad:
            self.due = False
            inspect_input(x_in, made)
        return made


def run_with_gradients(
    how: Differentiation,
    plan: Plan | Program,
    denoiser: BaseDenoiser,
    x: Tensor,
    *,
    noise: Noise = None,
    cond: Cond = None,
    on_step: OnStep | None = None,
    check: bool = True,
) -> Tensor:
    """Run ``plan`` from ``x`` (B, *shape) so that the result has a gradient.

    Raises GradientError where nothing requires grad, or a gradient would be lost.
    """
    grad, own = how.grad, denoiser.parameters() if how.parameters is None else how.parameters
    weights = list({id(p): p for p in own if p.requires_grad}.values())
    last = steps_of(grad)
    view = _view(how, plan, denoiser)
    if not (weights or wanted(cond) or (x.requires_grad and last is None) or view):
        raise GradientError(_nothing(grad, last, x))
    if grad == "full":
        model = denoiser if how.stateful else Inspected(denoiser)
        return run_plan(
            plan, model, x, noise=noise, cond=cond, on_step=on_step, check=check, graph=True
        )
    if grad.startswith("adjoint"):
        bare = plan.plan if isinstance(plan, Program) else plan
        adjoint = ContinuousAdjoint(_backward(grad, bare, denoiser), denoiser, cond, weights)
        run_ = partial(run_plan, plan, denoiser, noise=noise, cond=cond, check=check)
        return run_with_adjoint(adjoint, run_, x)
    if how.stateful:
        raise GradientError(
            f"grad={grad!r}: {type(denoiser).__name__} keeps values between the calls of a run, so "
            "its calls cannot be made again; use grad='full'"
        )
    undo = _undone(plan, denoiser) if grad == "reversible" else None
    program = plan if isinstance(plan, Program) else lower(plan, denoiser)
    program = program if undo is None else undo.program
    program = program if view is None else view.program
    root = max(1, math.isqrt(len(program.calls)))
    run = Recomputed(
        program,
        denoiser,
        _constant(grad, noise_source(noise)),
        cond,
        check,
        first=0 if last is None else _first(program, last),
        every=root if grad == "checkpoint:sqrt" else 1,
        undo=undo,
        parameters=weights,
        view=view,
    )
    return run_recomputed(run, x, how.lost)


def leaves_of_plan(theta: Mapping[str, Tensor] | None) -> Mapping[str, Tensor] | None:
    """``theta`` if one of its tensors requires grad, else None."""
    return theta if theta and any(value.requires_grad for value in theta.values()) else None


def _view(how: Differentiation, plan: Plan | Program, denoiser: BaseDenoiser) -> PlanView | None:
    """The plan as a function of its parameters, if gradients by them are wanted. Raises
    GradientError for a mode without these, or a network with rounded times."""
    if how.plan_parameters is None or isinstance(plan, Program):
        return None
    view = PlanView(plan, denoiser, how.plan_parameters)
    if how.grad != "checkpoint" and steps_of(how.grad) is None:
        raise GradientError(
            f"grad={how.grad!r}: plan_parameters= that require grad need grad='checkpoint' or "
            "'truncated:K'"
        )
    if set(view.names) - {"coefficients"}:
        for call in view.program.calls:
            places = time_stencil(denoiser, float(call.node.t or 0.0), torch.float32)
            if any(denoiser.time_mismatch(place) for place, _ in places):
                raise GradientError(
                    "the network takes its time as a rounded index, so the result has no "
                    f"derivative by {' and '.join(view.names)}; search them without gradients"
                )
    return view


def _constant(grad: str, source: NoiseSource | None) -> NoiseSource | None:
    """``source``, whose noises must not require grad."""
    if source is None:
        return None

    def constant(key: int, like: Tensor) -> Tensor:
        z = source(key, like)
        if isinstance(z, Tensor) and z.requires_grad:
            raise GradientError(
                f"grad={grad!r}: noise {key} requires grad, but noises are constants; use "
                "grad='full', or detach it"
            )
        return z

    return constant


def _undone(plan: Plan | Program, denoiser: BaseDenoiser) -> Undone:
    """How the run is undone. Raises GradientError for a sampler that is not exactly invertible."""
    program = plan if isinstance(plan, Program) else lower(plan, denoiser, plan.partners)
    try:
        return undone(program)
    except UndoError as error:
        known = ", ".join(name for name in registry.names() if registry.get(name).reversible)
        raise GradientError(
            f"grad='reversible': {error}; exactly invertible samplers are {known}; with this one "
            "use grad='checkpoint'"
        ) from error


def _backward(grad: str, plan: Plan, denoiser: BaseDenoiser) -> Plan:
    """The plan of the continuous adjoint, from the last node of ``plan`` to its first."""
    if plan.stochastic:
        raise GradientError(
            f"grad={grad!r}: {plan.name or 'the plan'} draws noise, and the continuous adjoint is "
            "that of an ODE; use grad='checkpoint'"
        )
    flat = plan.start.alpha == 0.0 and plan.end.sigma == 0.0
    name = grad.partition(":")[2] or ("flow_heun" if flat else "dpm_solver_2m")
    forward = Grid.from_nodes(plan.nodes, denoiser.schedule)
    return reversed_plan(name, {}, forward)


def _nothing(grad: str, last: int | None, x: Tensor) -> str:
    if last is not None and x.requires_grad:
        return (
            f"grad={grad!r}: only the start state requires grad, and the steps before the last "
            f"{last} are constants; use grad='checkpoint'"
        )
    return (
        f"grad={grad!r}: nothing requires grad: not the start (x= or init=), no tensor of cond=, "
        "no parameter of the model, none of the plan (plan_parameters=); call requires_grad_() "
        "first, or pass parameters="
    )


def _first(program: Program, last: int) -> int:
    """The first call of the last ``last`` grid steps: the last one at the node where they begin
    (Heun's second call there belongs to the step before); without one, the first that counts to
    these steps."""
    plan = program.plan
    begin = max(plan.steps - last, 0)
    if begin == 0:
        return 0
    at = [call.number for call in program.calls if call.node == plan.nodes[begin]]
    steps = plan.call_steps
    later = (k for k, step in enumerate(steps) if step >= begin)
    return at[-1] if at else next(later, len(steps) - 1)

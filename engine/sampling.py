"""``fewstep.sample`` and ``fewstep.run``: draw samples, or run a given plan.

A sampler is compiled to a plan, which is then run. A driver (``samplers.drivers``) runs directly on
the model and the state.

The state at the first node is ``prior_scale z`` (z is the start noise of each sample's seed), or
``alpha init + sigma z`` if a clean sample ``init`` is given, or ``x`` unchanged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import torch
from torch import Tensor

from .. import checks
from ..guidance.discrete.denoiser import DiscreteDenoiser
from ..models.base import RunFacts
from ..models.denoiser import Denoiser
from ..models.wrapper import complete
from ..plans.plan import Plan
from ..plans.running import loop
from ..plans.running.loop import Noise, NumericalError, OnStep, StepState
from ..plans.running.program import Program
from ..plans.transforms.gradients import Reconstruction
from ..schedules.grids.construction import Grid
from ..schedules.grids.request import GridRequest
from .arguments import StateError as StateError
from .arguments import (
    check_begin,
    check_cond,
    check_run,
    check_state,
    check_watchers,
)
from .automatic import facts_of
from .driving import run_driver
from .exact_inversion import check_partners, continue_run
from .given_plans import asked_of
from .gradients import (
    Differentiation,
    check_differentiable,
    check_grad,
    check_reconstruction,
    leaves_of_plan,
    run_with_gradients,
)
from .heavy_tails import path_noise
from .information import SampleInfo, info_of_drive, info_of_plan
from .paths import Named, check_name, noise_for
from .planning import Request
from .progress import print_progress
from .recording import Recorder, check_record, check_recordable
from .start_states import Begin, begun, sample_shape
from .token_sampling import sample_tokens
from .traced_sampling import (
    Asked,
    constant_run,
    refuse_traced_arguments,
    sample_in_graph,
)
from .tuned import Tuned
from .whole_runs import EAGER, How, how_of, run_whole

Cond = Tensor | Mapping[str, Tensor] | None
Model = Denoiser | DiscreteDenoiser


def run(
    plan: Plan | Program,
    denoiser: Denoiser,
    x: Tensor,
    *,
    noise: Noise | Named = None,
    seeds: Sequence[int] | None = None,
    cond: Cond = None,
    on_step: OnStep | None = None,
    check: bool = True,
    grad: str | None = None,
    parameters: Iterable[Tensor] | None = None,
    plan_parameters: Mapping[str, Tensor] | None = None,
    partners: Sequence[Tensor] = (),
    reconstruction: Reconstruction | None = None,
    compile: bool | str = False,
    capture: str | None = None,
) -> Tensor:
    """Run ``plan`` from ``x`` (B, *shape), the state at the plan's first node, already scaled.

    A stochastic plan takes its noises from ``noise`` (a callable ``(key, like)``, tensors by key,
    or a name as in ``sample``) or from ``seeds``, one per sample. ``on_step`` receives each step
    and may replace the next state. ``grad``, ``parameters`` and ``plan_parameters`` as in
    ``sample``. ``partners``: the other states that an exactly invertible sampler begins from,
    ``info.partners`` of ``invert``.
    ``reconstruction``: with ``grad="reversible"``, an ``engine.Reconstruction`` whose ``error`` is
    set by the backward pass. ``compile``, ``capture``: as in ``sample``.

    Under ``torch.compile`` the steps become one graph (see docs/concepts.md), and NaN raises
    RuntimeError. Inside a transform of ``torch.func`` values are not checked.

    Raises PlanError if tensors do not match the plan's draws, NumericalError on NaN, StateError on
    a wrong shape.
    """
    denoiser = complete(denoiser)
    more: dict[str, Any] = {"grad": grad, "parameters": parameters}
    more |= {"plan_parameters": plan_parameters, "partners": partners or None}
    if torch.compiler.is_compiling():
        refuse_traced_arguments({**more, "compile": compile, "capture": capture})
        return constant_run(plan, denoiser, x, noise, seeds, cond, on_step, check)
    checks.instance("plan", plan, (Plan, Program), "a plan, as fewstep.plan makes it,")
    check_run(denoiser, x, cond, on_step)
    try:
        if piece := How(compile, capture).checked({**more, "on_step": on_step}):
            named = tuple(seeds or ())
            return run_whole(piece, plan, denoiser, x, noise, named, cond, on_step, check)
    except NumericalError as error:
        raise (error if seeds is None else _with_seeds(error, seeds)) from None
    wanted = check_grad(grad, parameters, on_step)
    check_reconstruction(reconstruction, grad)
    given = plan
    if plan_parameters is not None:
        plan = _with_parameters(plan, plan_parameters, partners)
    bare = plan.plan if isinstance(plan, Program) else plan
    if partners:
        check_partners(bare, x, partners, grad)
        return continue_run(bare, denoiser, x, partners, cond, on_step, check)
    inverse = bare.start.lam > bare.end.lam
    own = denoiser.for_run(RunFacts(tuple(seeds or ()), bare.call_steps, inverse))
    source = path_noise(denoiser.schedule, bare, noise_for(bare, noise, seeds))
    settings: dict[str, Any] = {"cond": cond, "on_step": on_step, "check": check}
    try:
        if grad is None:
            return loop.run_plan(plan, own, x, noise=source, **settings)
        of_plan = leaves_of_plan(plan_parameters)
        stateful = own is not denoiser and not own.joinable
        how = Differentiation(grad, wanted, stateful, of_plan, reconstruction)
        chosen = given if of_plan else plan
        return run_with_gradients(how, chosen, own, x, noise=source, **settings)
    except NumericalError as error:
        raise (error if seeds is None else _with_seeds(error, seeds)) from None


def _with_parameters(
    plan: Plan | Program, theta: Mapping[str, Tensor], partners: Sequence[Tensor]
) -> Plan:
    """The plan with other parameters. Raises ArgumentError for a Program, or with partners."""
    if isinstance(plan, Program) or partners:
        raise checks.ArgumentError(
            "plan_parameters= needs a plan that is run from its start, not a Program or partners="
        )
    return plan.with_parameters(theta)


def _with_seeds(error: NumericalError, seeds: Sequence[int]) -> NumericalError:
    error.args = (f"{error.args[0]}, seeds {[seeds[i] for i in error.samples]}",)
    return error


@overload
def sample(
    denoiser: Model, sampler: str = ..., *, info: Literal[False] = ..., **arguments: Any
) -> Tensor: ...
@overload
def sample(
    denoiser: Model, sampler: str = ..., *, info: Literal[True], **arguments: Any
) -> tuple[Tensor, SampleInfo]: ...
def sample(
    denoiser: Model,
    sampler: str = "auto",
    *,
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Grid = "auto",
    times: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    final: str = "zero",
    n: int | None = None,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    x: Tensor | None = None,
    init: Tensor | None = None,
    start: float | None = None,
    shape: Sequence[int] | None = None,
    cond: Cond = None,
    noise: Noise | Named = "independent",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    callback: OnStep | None = None,
    progress: bool | Callable[[int, int], None] = False,
    info: bool = False,
    record: bool = False,
    grad: str | None = None,
    parameters: Iterable[Tensor] | None = None,
    plan_parameters: Mapping[str, Tensor] | None = None,
    plan: Plan | Tuned | None = None,
    compile: bool | str = False,
    capture: str | None = None,
    **options: Any,
) -> Tensor | tuple[Tensor, SampleInfo]:
    """Draw samples.

    Args:
        denoiser: the model; one of tokens (``guidance.discrete``) has samplers of its own and
            returns integers (n, L), see ``engine.token_sampling``.
        sampler, steps, nfe, grid, times, sigmas, final, options: see ``fewstep.plan``. The default
            chooses both sampler and grid for the model and the number of calls.
        n, seed: sample i has seed ``seed + i``; or ``seeds``, one per sample. The same seed gives
            the same noise in any batch.
        x: the state at the grid's first time, already scaled, instead of noise.
        init, start: begin at time ``start`` from ``init`` (clean data) noised to that time.
        shape: of one sample; required if the model does not define it.
        cond: tensor or mapping of tensors, batch first.
        noise: of a stochastic sampler: ``"independent"`` or ``"brownian"`` (from the seeds; one
            path for every grid, see ``engine.paths``), a callable ``(key, like)`` or tensors by
            key.
        callback: receives each ``StepState``; may return a tensor that replaces the next state.
        progress: True prints to stderr, or a callable ``(done, total)``.
        info: also return a ``SampleInfo``.
        record: keep the states of the run in ``info.states``, for ``transition_log_prob``; needs
            ``info=True`` and a sampler that is no driver.
        grad: make the result differentiable, with respect to ``x`` or ``init``, to tensors of
            ``cond`` and to the model's parameters, where they require grad: ``"full"``,
            ``"checkpoint"``, ``"checkpoint:sqrt"``, ``"reversible"``, ``"truncated:K"`` or
            ``"adjoint"``, see ``engine.gradients``.
        parameters: with ``grad``, the tensors behind the model that gradients are wanted for, where
            ``denoiser.parameters()`` does not list them.
        plan_parameters: other coefficients, times or labels of the plan, as ``plan.parameters``
            of ``fewstep.plan`` with the same arguments names and shapes them; with ``grad``
            (``"checkpoint"``, ``"truncated:K"``) the result has gradients by them too.
        plan: a ``Plan`` on the model's schedule, or what ``fewstep.tune`` returned for this model,
            instead of ``sampler`` and everything that describes it and its grid.
        compile: True: the whole run is one graph of ``torch.compile``, made by the first call and
            used again for other seeds and states; or a backend's name.
        capture: ``"cuda_graph"``: the whole run is recorded by the first call and replayed by later
            calls with the same model, plan and shapes, see ``engine.whole_runs``.

    Returns the samples (n, *shape); with ``info=True`` the samples and the SampleInfo.
    """
    if isinstance(denoiser, DiscreteDenoiser):
        return sample_tokens(denoiser, dict(locals()))
    denoiser = complete(denoiser)
    begin = Begin(n, seed, seeds, x, init, device, dtype)
    if torch.compiler.is_compiling():
        refused: dict[str, Any] = {"grad": grad, "parameters": parameters, "plan": plan}
        refused |= {"plan_parameters": plan_parameters, "info": info, "record": record}
        refused |= {"progress": progress, "compile": compile, "capture": capture}
        refuse_traced_arguments(refused)
        size = sample_shape(x, init, shape)
        fields = Asked(sampler, options, steps, nfe, grid, times, sigmas, final, start, size)
        return sample_in_graph(denoiser, fields, begin, cond, noise, callback)
    check_record(record, info)
    how = how_of(compile, capture, record=record, progress=progress, callback=callback)
    wanted = check_grad(grad, parameters, callback)
    check_watchers(callback, progress)
    check_name(noise)
    check_begin(x, init, start)
    known = facts_of(denoiser, sample_shape(x, init, shape))
    where = GridRequest(steps, nfe, grid, times, sigmas, final, start, facts=known)
    asked = asked_of(plan, sampler, denoiser.schedule, options, where)
    chosen, state = begun(denoiser, asked.grid[0], begin.checked(), shape)
    began = time.perf_counter()
    out, facts = execute(
        asked,
        denoiser,
        state,
        noise=noise,
        seeds=chosen,
        cond=cond,
        callback=callback,
        progress=progress,
        record=record,
        grad=grad,
        parameters=wanted,
        plan_parameters=plan_parameters,
        how=how,
    )
    out = out if denoiser.offset is None else out + denoiser.offset.to(out)
    return (out, replace(facts, seconds=time.perf_counter() - began)) if info else out


def execute(
    asked: Request,
    denoiser: Denoiser,
    x: Tensor,
    *,
    seeds: Sequence[int],
    noise: Noise | Named = None,
    cond: Cond = None,
    callback: OnStep | None = None,
    progress: bool | Callable[[int, int], None] = False,
    record: bool = False,
    grad: str | None = None,
    parameters: Iterable[Tensor] | None = None,
    plan_parameters: Mapping[str, Tensor] | None = None,
    how: How = EAGER,
) -> tuple[Tensor, SampleInfo]:
    """Run a request from ``x`` (B, *shape), the state at its grid's first node, with a plan or a
    driver. ``noise`` None: noise from the seeds. ``record``: keep the states. ``how``: as one
    piece."""
    denoiser = complete(denoiser)
    asked.check_model(denoiser)
    if asked.driver:
        how.refuse_driver(asked.name)
        check_recordable(asked.name, record)
        check_differentiable(asked.name, grad, plan_parameters)
        check_state(x, denoiser)
        check_cond(cond, x.shape[0])
        denoiser.check_cond(cond, x.shape[0])
        own = denoiser.for_run(RunFacts(tuple(seeds)))
        try:
            out, drive = run_driver(
                asked, own, x, noise, seeds, cond, _watcher(callback, progress, None)
            )
        except NumericalError as error:
            raise _with_seeds(error, seeds) from None
        return out, info_of_drive(drive, denoiser, seeds, asked.reason)
    plan = base = asked.plan()
    if plan_parameters is not None:
        plan = base.with_parameters(plan_parameters)
    watcher = _watcher(callback, progress, plan.nfe)
    recorder = Recorder(plan, denoiser, x, noise) if record else None
    lost = Reconstruction() if grad == "reversible" else None
    out = run(
        base,
        denoiser,
        x,
        noise=noise,
        seeds=seeds,
        cond=cond,
        on_step=watcher if recorder is None else recorder.watch(watcher),
        grad=grad,
        parameters=parameters,
        plan_parameters=plan_parameters,
        reconstruction=lost,
        compile=how.compile,
        capture=how.capture,
    )
    facts = replace(info_of_plan(plan, denoiser, seeds, x.shape[0], asked.reason), undone=lost)
    return out, facts if recorder is None else replace(facts, states=recorder.states)


def _watcher(
    callback: OnStep | None, progress: bool | Callable[[int, int], None], total: int | None
) -> OnStep | None:
    """Combine ``on_step`` with a report of the calls made; ``total`` is None if their number is not
    known in advance."""
    if not progress:
        return callback
    report = progress if callable(progress) else print_progress

    def watch(step: StepState) -> Tensor | None:
        report(step.nfe, step.nfe if total is None else total)
        return callback(step) if callback is not None else None

    return watch

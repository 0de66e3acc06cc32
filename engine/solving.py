"""``solve``: draw samples of the posterior of an inverse problem, by name of the method."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, overload

import torch
from torch import Tensor

from ..checks import ArgumentError, shown
from ..guidance.posterior import registry
from ..guidance.posterior.counts import Counts
from ..guidance.posterior.own_loop import OwnLoop, Route
from ..guidance.posterior.posterior import Posterior
from ..guidance.posterior.registry import OWN, Method
from ..models.base import BaseDenoiser
from ..models.denoiser import Denoiser
from ..models.wrapper import complete
from ..plans.plan import Plan
from ..plans.running.loop import OnStep, StepState
from ..schedules.grids.construction import Grid
from ..schedules.grids.request import GridRequest
from .arguments import StateError, check_cond, check_given, check_middle, check_watchers
from .automatic import facts_of
from .planning import Request, request
from .progress import print_progress
from .sampling import Cond, execute
from .start_states import Begin, begun, sample_shape

Progress = bool | Callable[[int, int], None]


@dataclass(frozen=True)
class SolveInfo:
    """Summary of a finished ``solve``.

    Attributes:
        method: its name; ``options`` its options.
        sampler: the sampler that ran it; ``plan`` its plan, None for a driver.
        counts: batched calls that were made: network, vector-Jacobian products, operator, adjoint.
        predicted: what was expected before the run; None for a driver, and where it depends on the
            data.
        seeds: one per sample.
        seconds: wall time.
        misfit: ``|y - A(x)|`` of each sample, (n,) float64; for a list of K losses (n, K).
        reason: what the automatic choices took, and why.
    """

    method: str
    options: Mapping[str, Any]
    sampler: str
    plan: Plan | None
    counts: Counts
    predicted: Counts | None
    seeds: tuple[int, ...]
    seconds: float
    misfit: Tensor
    reason: str = ""

    @property
    def nfe(self) -> int:
        """Network calls."""
        return self.counts.network


@overload
def solve(
    denoiser: Denoiser, likelihood: Any, method: str = ..., *, info: Literal[False] = ..., **_: Any
) -> Tensor: ...
@overload
def solve(
    denoiser: Denoiser, likelihood: Any, method: str = ..., *, info: Literal[True], **_: Any
) -> tuple[Tensor, SolveInfo]: ...
def solve(
    denoiser: Denoiser,
    likelihood: Any,
    method: str = "mmps",
    *,
    sampler: str | None = None,
    sampler_options: Mapping[str, Any] | None = None,
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
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    callback: OnStep | None = None,
    progress: Progress = False,
    info: bool = False,
    **options: Any,
) -> Tensor | tuple[Tensor, SolveInfo]:
    """Draw samples of about ``p(x0 | y)``.

    Args:
        denoiser: the model, the prior p(x0).
        likelihood: ``guidance.Gaussian(operator, y, sigma_y)`` or ``guidance.Constraint(operator,
            y)``; for ``residual`` and ``diffusion_pde`` also a list of ``guidance.Loss``.
        method: see ``guidance.methods()``; ``options`` are its options, the arguments of its class.
        sampler, sampler_options: see ``fewstep.plan``. Default: the method's own, most often
            dpmpp_2m; methods with a plan of their own take none.
        steps, nfe, grid, times, sigmas, final, n, seed, seeds, x, init, start, shape, cond, device,
            dtype, callback, progress: see ``fewstep.sample``. By default n is the number of
            measurements in ``y``, else 1.
        info: also return a ``SolveInfo``.

    Returns the samples (n, *shape); with ``info=True`` the samples and the SolveInfo. Raises
    ArgumentError for arguments that cannot be used, before the first network call; GradientError
    for a model that cannot be differentiated, at the first call.
    """
    entry = registry.get(method)
    prior = complete(denoiser)
    check_given(x=x, init=init)
    check_watchers(callback, progress)
    made = registry.made(entry, prior, likelihood, options).counted()
    size = sample_shape(x, init, shape)
    n = _count(made, prior.shape if size is None else size, n, seeds, x, init)
    begin = Begin(n, seed, seeds, x, init, device, dtype).checked()
    where = GridRequest(steps, nfe, grid, times, sigmas, final, start, facts=facts_of(prior, size))
    asked = requested(entry, made, sampler, sampler_options, where)
    check_middle(start, x, init)
    if made.own_start and not (init is None and start is None):
        raise ArgumentError(
            f"{entry.name} begins at a state of its own: leave init= and start= out"
        )
    chosen, state = begun(made, asked.grid[0], begin, shape)
    state = made.started(state, asked.grid[0])
    ready = Solving(entry, made, asked, chosen, dict(options))
    out, facts = ready.run(state, cond, callback, progress)
    return (out, facts) if info else out


def _count(
    made: Posterior,
    shape: Sequence[int] | None,
    n: int | None,
    seeds: Sequence[int] | None,
    x: Tensor | None,
    init: Tensor | None,
) -> int | None:
    """The number of samples. Raises ArgumentError where the measurement is for another number."""
    if shape is None:
        raise StateError("the model does not define the shape of a sample: pass shape=")
    own = made.samples(tuple(shape))
    given = next((len(v) for v in (seeds, x, init) if v is not None), n)
    if own is not None and given not in (None, own):
        raise ArgumentError(f"y holds {own} measurements, and {given} samples are asked for")
    return own if n is None and seeds is None and x is None and init is None else n


def requested(
    entry: Method,
    made: Posterior,
    sampler: str | None,
    sampler_options: Mapping[str, Any] | None,
    where: GridRequest,
) -> Request:
    """The sampler on its grid, checked for what the method needs. Raises ArgumentError."""
    options = dict(sampler_options or {})
    if entry.form == "plan" and sampler is not None:
        raise ArgumentError(
            f"{entry.name} makes its own steps, so sampler={shown(sampler)} cannot be used: leave "
            "it out"
        )
    if sampler is None and entry.sampler == OWN:
        return _own_plan(entry, made, options, where)
    if sampler is None:
        sampler, options = entry.sampler, {**entry.options, **options}
    asked = request(sampler, made.schedule, options, where)
    asked.check_model(made)
    if entry.form == "denoiser":
        return asked
    if asked.driver:
        raise ArgumentError(
            f"sampler={asked.name!r} chooses its steps as it runs; {entry.name} needs a sampler "
            "with a plan"
        )
    if entry.form == "loop" and asked.fixed is not None:
        raise ArgumentError(f"{entry.name} makes its steps itself: name heun or ddim, not a plan")
    calls = asked.plan().call_steps
    if entry.form == "step" and len(set(calls)) != len(calls):
        raise ArgumentError(
            f"{entry.name} changes the state after each step, and {asked.name} makes several "
            "calls a step: use a sampler with one, such as ddim, or the method dps"
        )
    return asked


def _own_plan(entry: Method, made: Any, options: Mapping[str, Any], where: GridRequest) -> Request:
    """The plan that the method makes on its grid. Raises ArgumentError for options of a sampler,
    and for a budget of calls that is too small."""
    if options:
        raise ArgumentError(
            f"sampler_options={shown(options)}: {entry.name} makes its own steps; its options are "
            f"{', '.join(entry.allowed) or 'none'}"
        )

    def asked(steps: int | None) -> Request:
        wanted = where if steps is None else replace(where, nfe=None, steps=steps)
        base = request("ddim", made.schedule, {"eta": 1.0}, wanted)
        plan = made.plan(base.grid)
        return Request(entry.name, None, base.grid, base.reason, fixed=plan)

    found = asked(None)
    most = where.nfe
    if most is None or found.fixed is None or found.fixed.nfe <= most:
        return found
    low, high = 0, 1 if where.given else found.grid.steps  # calls grow with steps
    while high - low > 1:
        middle = (low + high) // 2
        fits = made.plan(asked(middle).grid).nfe <= most
        low, high = (middle, high) if fits else (low, middle)
    if not low:
        raise ArgumentError(
            f"nfe={most}: the fewest calls of {entry.name} on this grid are more; allowed from "
            f"{found.fixed.nfe if where.given else made.plan(asked(1).grid).nfe} on"
        )
    return asked(low)


@dataclass(frozen=True)
class Solving:
    """A method on its sampler, ready to run."""

    entry: Method
    method: Posterior
    asked: Request
    seeds: tuple[int, ...]
    options: Mapping[str, Any]

    def run(
        self, x: Tensor, cond: Cond, callback: OnStep | None, progress: Progress
    ) -> tuple[Tensor, SolveInfo]:
        """Run from ``x``, the state at the first node."""
        began, method, asked = time.perf_counter(), self.method, self.asked
        predicted: Counts | None
        if isinstance(method, OwnLoop):
            out, predicted = self._loop(method, x, cond, callback, progress)
        else:
            known = method.foretold and not asked.driver
            predicted = method.planned(asked.plan()) if known else None
            out, _ = execute(
                asked,
                method,
                x,
                seeds=self.seeds,
                cond=cond,
                callback=self._watcher(callback),
                progress=progress,
            )
        counts = replace(method.counts)
        out = out if method.offset is None else out + method.offset.to(out)
        out = method.finish(out)
        return out, SolveInfo(
            self.entry.name,
            self.options,
            asked.name,
            None if asked.driver else asked.plan(),
            counts,
            predicted,
            self.seeds,
            time.perf_counter() - began,
            method.likelihood.misfit(out),
            asked.reason,
        )

    def _watcher(self, callback: OnStep | None) -> OnStep | None:
        """The method's change of a state, and then the caller's."""
        own = getattr(self.method, "on_step", None)
        if own is None or callback is None:
            return callback if own is None else own

        def watch(step: StepState) -> Tensor:
            changed = own(step)
            step = step if changed is None else replace(step, x_next=changed)
            answer = callback(step)
            return step.x_next if answer is None else answer

        return watch

    def _loop(
        self,
        method: OwnLoop,
        x: Tensor,
        cond: Cond,
        callback: OnStep | None,
        progress: Progress,
    ) -> tuple[Tensor, Counts | None]:
        if callback is not None:
            raise ArgumentError(f"{self.entry.name} has a loop of its own and takes no callback=")
        model: BaseDenoiser = method.denoiser
        check_cond(cond, x.shape[0])
        model.check_cond(cond, x.shape[0])
        report = progress if callable(progress) else print_progress if progress else None
        route = Route(self.asked.name, self.asked.options, self.asked.grid, self.seeds)
        return method.looped(route, x, cond, report)

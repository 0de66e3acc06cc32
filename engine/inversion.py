"""``fewstep.invert``: computes the noise from which a sampler reproduces given data.

reversed     the plan of the sampler on the reversed grid. It integrates the same ODE backwards,
             so the round trip has the error of the method, of its order in the steps (Song et
             al. 2020, arXiv 2010.02502, eq. 14; Lu et al. 2022, arXiv 2206.00927)
exact        exactly invertible samplers: the run is undone, to rounding
             (``engine.exact_inversion``)
fixed_point  each step of a sampler of one step at a time is solved for its start
newton       (``engine.implicit_inversion``)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, overload

from torch import Tensor

from ..checks import ArgumentError, ArgumentTypeError, choice, flag, integer, number
from ..models.base import BaseDenoiser
from ..models.denoiser import Denoiser
from ..models.wrapper import complete
from ..plans.plan import Plan
from ..plans.running.loop import OnStep
from ..samplers import registry
from ..schedules.base import Schedule
from ..schedules.grids.construction import Grid
from ..schedules.grids.request import GridRequest
from .arguments import check_cond, check_given, check_state, check_watchers
from .automatic import facts_of
from .exact_inversion import error_of, exact_program, undo_run
from .implicit_inversion import ITERATIONS, Implicit, invert_steps, single_steps
from .planning import Request, request
from .progress import print_progress
from .reversal import built_backward
from .sampling import Cond, _watcher, run

METHODS = ("reversed", "exact", *ITERATIONS)


@dataclass(frozen=True)
class InversionInfo:
    """Summary of an inversion.

    Attributes:
        method: how it was made, one of ``METHODS``.
        nfe: network calls of the inversion; the measurement of the error makes ``plan.nfe`` more.
        plan: the plan that samples from the result.
        partners: the other states that an exactly invertible sampler begins from: ``fewstep.run(
            info.plan, denoiser, result, partners=info.partners)`` gives the data back. On a
            mean-reverting path ``run`` takes the difference to the mean, and so are these.
        reconstruction: what sampling from the result gave, (B, *shape).
        largest: the largest absolute difference between that and the data.
        errors: the root mean square difference of each sample, (B,).
    """

    method: str
    nfe: int
    plan: Plan
    partners: tuple[Tensor, ...]
    reconstruction: Tensor
    largest: float
    errors: Tensor


@overload
def invert(
    denoiser: Denoiser, x0: Tensor, sampler: str = ..., *, info: Literal[False] = ..., **given: Any
) -> Tensor: ...
@overload
def invert(
    denoiser: Denoiser, x0: Tensor, sampler: str = ..., *, info: Literal[True], **given: Any
) -> tuple[Tensor, InversionInfo]: ...
def invert(
    denoiser: Denoiser,
    x0: Tensor,
    sampler: str = "dpm_solver_2m",
    *,
    inversion: str | None = None,
    iterations: int | None = None,
    prior: float | None = None,
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Grid = "auto",
    times: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    final: str | None = None,
    start: float | None = None,
    cond: Cond = None,
    callback: OnStep | None = None,
    progress: bool | Callable[[int, int], None] = False,
    info: bool = False,
    **options: Any,
) -> Tensor | tuple[Tensor, InversionInfo]:
    """Return the state at the grid's first time (B, *shape), already scaled, that leads to ``x0``
    (B, *shape), the state at its last time.

    ``fewstep.sample(denoiser, sampler, x=result, ...)`` with the same grid, ``final`` and ``cond``
    maps the result back to ``x0``.

    Args:
        sampler, steps, nfe, grid, times, sigmas, start, options: as in ``fewstep.plan``; the grid
            is that of sampling, from noise to data. ``nfe`` counts the calls of sampling.
        inversion: see ``engine.inversion``; default ``exact`` for exactly invertible samplers
            (``edict``, ``bdia``, ``belm``, ``reversible_heun``, ``flow_belm``), else ``reversed``.
            The round trip of ``exact`` needs ``info.partners`` as well.
        iterations: of ``fixed_point`` (20) and ``newton`` (3), in every step.
        prior: weight, 0 or more, of the prior term of ``newton``, which keeps each state near the
            mean of the forward path (``engine.implicit_inversion``); default 0. A weight w gives
            the likelier of several solutions, and an error of the reconstruction of about w.
        final: of a named grid: ``sigma_min`` (default): x0 is taken as a state at t_min; ``zero``:
            at sigma = 0, for samplers on eps and velocities whose network is defined there.
        cond, progress: as in ``fewstep.sample``; ``callback`` too, for ``reversed``.
        info: also sample back from the result, and return an ``InversionInfo`` with the measured
            error of the reconstruction.

    Raises SamplerError for a driver, a stochastic sampler, and a sampler whose steps cannot be
    reversed (data predictions from sigma = 0, steps in rho to alpha = 0); ConversionError if the
    network's prediction cannot be converted there.
    """
    denoiser, info = complete(denoiser), flag("info", info)
    if not isinstance(sampler, str):
        raise ArgumentTypeError(
            f"sampler is a {type(sampler).__name__}: must be the name of a sampler; with an "
            "inverse scheduler of diffusers, or its config, call "
            "fewstep.interop.diffusers.invert(scheduler, denoiser, x0, steps)"
        )
    check_given(x0=x0)
    check_watchers(callback, progress)
    # the state of a mean-reverting path is x - offset
    offset = denoiser.offset
    x = x0 if offset is None else x0 - offset.to(x0)
    check_state(x, denoiser)
    check_cond(cond, x.shape[0])
    denoiser.check_cond(cond, x.shape[0])
    facts = facts_of(denoiser, x.shape[1:])
    named = isinstance(grid, str) and times is None and sigmas is None
    end = ("sigma_min" if named else "zero") if final is None else final
    where = GridRequest(steps, nfe, grid, times, sigmas, end, start, facts=facts)
    asked = deterministic(request(sampler, denoiser.schedule, options, where))
    way = _Way(asked, denoiser, cond, callback, progress)
    how = _method(asked, inversion, iterations, prior, callback)
    found = way.found(how, x, iterations, prior)
    made = way.measured(how, found, x) if info else None
    z = found.z if offset is None else found.z + offset.to(found.z)
    return z if made is None else (z, made)


def check_inversion(
    denoiser: BaseDenoiser,
    shape: Sequence[int],
    sampler: str,
    *,
    inversion: str | None = None,
    iterations: int | None = None,
    prior: float | None = None,
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Grid = "auto",
    final: str = "sigma_min",
    **options: Any,
) -> None:
    """Raise what ``invert`` would raise for these arguments, without a network call; ``shape`` is
    that of one sample."""
    facts = facts_of(denoiser, tuple(shape))
    where = GridRequest(steps, nfe, grid, final=final, facts=facts)
    asked = deterministic(request(sampler, denoiser.schedule, options, where))
    how = _method(asked, inversion, iterations, prior, None)
    if how == "reversed":
        built_backward(asked.name, asked.options, asked.grid)
    elif how == "exact":
        exact_program(asked.plan(), denoiser)
    else:
        single_steps(asked.name, asked.grid, asked.options)


def deterministic(asked: Request) -> Request:
    """Return the request. Raises SamplerError for a driver and a stochastic sampler."""
    if asked.driver:
        raise registry.SamplerError(
            f"{asked.name} is a driver, which cannot be inverted; use a sampler with a plan, "
            "such as dpm_solver_2m"
        )
    if registry.get(asked.name).tau_of(asked.options) > 0.0:
        raise registry.SamplerError(
            f"{asked.name} draws noise and cannot be inverted; use a deterministic sampler, "
            "or tau=0"
        )
    return asked


def inverse_plan(
    sampler: str, schedule: Schedule, options: Mapping[str, Any], where: GridRequest
) -> Plan:
    """Return the plan of ``sampler`` on the grid ``where``, from its last node to its first."""
    asked = deterministic(request(sampler, schedule, options, where))
    return built_backward(asked.name, asked.options, asked.grid)


def _method(
    asked: Request,
    inversion: str | None,
    iterations: int | None,
    prior: float | None,
    callback: OnStep | None,
) -> str:
    """The method, checked with what goes with it."""
    reversible = registry.get(asked.name).reversible
    chosen = ("exact" if reversible else "reversed") if inversion is None else inversion
    choice("inversion", chosen, METHODS)
    if chosen == "exact" and not reversible:
        known = ", ".join(name for name in registry.names() if registry.get(name).reversible)
        raise registry.SamplerError(
            f"inversion='exact': {asked.name} is not exactly invertible; these are: {known}; "
            "inversion='newton' solves the steps of samplers of one step at a time"
        )
    if iterations is not None:
        if chosen not in ITERATIONS:
            raise ArgumentError(
                f"iterations={iterations!r} with inversion={chosen!r}: only "
                f"{' and '.join(ITERATIONS)} iterate"
            )
        integer("iterations", iterations, 1, 10_000)
    if prior is not None:
        if chosen != "newton":
            raise ArgumentError(
                f"prior={prior!r} with inversion={chosen!r}: only newton has a prior term"
            )
        number("prior", prior, 0.0)
    if callback is not None and chosen != "reversed":
        raise ArgumentError(
            f"callback= with inversion={chosen!r}: its steps are not those of a run; use progress="
        )
    return chosen


class _Found(NamedTuple):
    """The state at the first node, the other states there, and the network calls made."""

    z: Tensor
    partners: tuple[Tensor, ...]
    calls: int


@dataclass(frozen=True)
class _Way:
    """What is inverted, and with what."""

    asked: Request
    denoiser: BaseDenoiser
    cond: Cond
    callback: OnStep | None
    progress: bool | Callable[[int, int], None]

    def found(self, how: str, x: Tensor, iterations: int | None, prior: float | None) -> _Found:
        """Invert from ``x`` by the method ``how``."""
        asked, denoiser, cond = self.asked, self.denoiser, self.cond
        if how == "reversed":
            plan = built_backward(asked.name, asked.options, asked.grid)
            watcher = _watcher(self.callback, self.progress, plan.nfe)
            return _Found(run(plan, denoiser, x, cond=cond, on_step=watcher), (), plan.nfe)
        told = self.progress
        report = None if not told else told if callable(told) else print_progress
        if how == "exact":
            program = exact_program(asked.plan(), denoiser)
            return _Found(*undo_run(program, asked.grid, denoiser, x, cond, report))
        count = ITERATIONS[how] if iterations is None else iterations
        implicit = Implicit(how, count, prior or 0.0)
        plans = single_steps(asked.name, asked.grid, asked.options)
        z, calls = invert_steps(implicit, plans, denoiser, x, cond, report)
        return _Found(z, (), calls)

    def measured(self, how: str, found: _Found, x: Tensor) -> InversionInfo:
        """Sample back from what was found, and compare with ``x``."""
        plan, denoiser = self.asked.plan(), self.denoiser
        back = run(plan, denoiser, found.z, cond=self.cond, partners=found.partners)
        largest, errors = error_of(back, x)
        offset = denoiser.offset
        whole = back if offset is None else back + offset.to(back)
        return InversionInfo(how, found.calls, plan, found.partners, whole, largest, errors)

"""``fewstep.plan``: compiles a sampler, given by name and options, to a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ..checks import shown, unknown
from ..models.base import BaseDenoiser
from ..models.denoiser import Denoiser
from ..models.wrapper import complete
from ..plans.plan import Plan
from ..plans.plan_file import MadeFor
from ..plans.running.channels import check_channels
from ..samplers import registry
from ..samplers.aliases import ALIASES, nearest
from ..samplers.budgets import fitted_steps
from ..samplers.floors import warn_of_floor
from ..samplers.from_file import file_options, is_file, plan_file
from ..samplers.kinds import kind_of
from ..schedules.base import Schedule
from ..schedules.grids.auto import auto_reason
from ..schedules.grids.construction import MAX_STEPS, Grid
from ..schedules.grids.request import GridRequest, count
from ..schedules.validation import check_schedule
from .automatic import AUTO, automatic_sampler, facts_of
from .named_grids import grid_for
from .option_hints import option_hint
from .provenance import check_made_for, check_made_for_schedule
from .token_sampling import refuse_token_samplers

#: statistics of a model among the options, in messages
_TABLE = "the table of statistics="


def plan(
    sampler: str,
    schedule: Schedule | Denoiser,
    *,
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Grid = "auto",
    times: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    final: str = "zero",
    start: float | None = None,
    **options: Any,
) -> Plan:
    """Compile a sampler on a grid of ``schedule`` to a plan.

    Args:
        sampler: a registered name, another program's name for it (``fewstep.samplers.ALIASES``),
            ``"auto"``, a choice by the number of calls and the model (docs/grids.md), or
            ``"file:PATH"``, a plan that ``fewstep.tune`` saved; its option ``force=True`` uses it
            on a model that it was not tuned for.
        schedule: the noising path of the model; or the model itself, whose scale and shape of the
            data the automatic choices then use, as ``fewstep.sample`` does.
        steps: grid intervals; ``nfe``: a budget of network calls instead (the largest plan that
            fits). Default: 20 steps.
        grid: a grid's name or a ``Grid``; ``times`` or ``sigmas`` (rho values) give the nodes
            themselves.
        final: ``"zero"`` ends at sigma = 0, ``"sigma_min"`` at t_min.
        start: begin at this time of the schedule instead of t_max.
        options: the sampler's own options (``fewstep.samplers.describe``).

    Raises SamplerError or GridError for unknown names and options, with the nearest match, and
    ArgumentTypeError for a schedule that is neither a schedule nor a denoiser. A denoiser without
    the channels that the sampler reads is a PlanError.
    """
    where = GridRequest(steps, nfe, grid, times, sigmas, final, start)
    if not isinstance(schedule, Schedule):
        denoiser = _model(schedule)
        where = replace(where, facts=facts_of(denoiser))
        asked = request(sampler, denoiser.schedule, options, where)
        asked.check_model(denoiser)
        return asked.plan()
    return request(sampler, schedule, options, where).plan()


def _model(given: Any) -> BaseDenoiser:
    """Return the denoiser ``given``. Raises ArgumentTypeError, as for a schedule, if it is none."""
    if not isinstance(given, Denoiser):
        check_schedule(given)
    return complete(given)


@dataclass(frozen=True)
class Request:
    """A registered sampler with its options and its grid, as run by ``plan`` and ``sample``."""

    name: str
    options: Any
    grid: Grid
    #: what the automatic choices took, and why; one line each
    reason: str = ""
    #: a plan that was made before, instead of a registered sampler
    fixed: Plan | None = None
    #: what that plan was tuned for; None: unknown, or the caller does not mind
    made_for: MadeFor | None = None

    @property
    def driver(self) -> bool:
        """True if the sampler is a driver, which has no fixed plan."""
        return self.fixed is None and registry.get(self.name).form == "driver"

    def check_model(self, denoiser: BaseDenoiser) -> None:
        """PlanError if ``denoiser`` lacks a channel that the sampler reads, even one that the plan
        of this grid does not read (one step from alpha = 0), and if the plan was tuned for another
        model, or the statistics among its options were estimated on another."""
        entry = self.fixed or registry.get(self.name)
        check_channels(self.name, entry.channels, denoiser)
        if self.made_for is not None:
            check_made_for(self.name, self.made_for, denoiser)
        if (made_for := getattr(self.options, "made_for", None)) is not None:
            check_made_for(_TABLE, made_for, denoiser)

    def plan(self) -> Plan:
        """Return the plan. Raises SamplerError for a driver."""
        if self.fixed is not None:
            return self.fixed
        warn_of_floor(self.name, self.grid)
        return registry.build(self.name, self.grid, self.options, self.reason)


def request(
    sampler: str,
    schedule: Schedule,
    options: Mapping[str, Any],
    where: GridRequest | None = None,
) -> Request:
    """Resolve and check the sampler, its options and the grid ``where`` on ``schedule``.

    ``nfe`` of the grid request determines the number of steps; for a driver that picks its own step
    sizes it is ``max_nfe``. Raises SamplerError, GridError or ArgumentError.
    """
    where = GridRequest() if where is None else where
    reasons = []
    if sampler == AUTO:
        sampler, options, reason = automatic_sampler(where, schedule, options)
        reasons.append(reason)
    if is_file(sampler):
        return requested_file(sampler, schedule, options, where)
    name, given, grid = resolve(sampler, dict(options), where.grid)
    where = where if grid is where.grid else replace(where, grid=grid)
    entry = registry.get(name)
    try:
        chosen = registry.make_options(entry, given)
    except registry.SamplerError as error:
        own = {field.name for field in fields(entry.options)}
        hints = (option_hint(key, given[key], where) for key in given if key not in own)
        hint = next((hint for hint in hints if hint is not None), None)
        raise (error if hint is None else registry.SamplerError(f"{error}; {hint}")) from error
    if (made_for := getattr(chosen, "made_for", None)) is not None:
        check_made_for_schedule(_TABLE, made_for, schedule)
    if entry.free and where.steps is not None:
        raise registry.SamplerError(
            f"{name} picks its own step sizes, so steps={where.steps} does not apply; give "
            "tolerances, or max_nfe="
        )
    if where.automatic:
        where = replace(where, kind=kind_of(name, chosen))
    steps = where.steps
    if where.nfe is not None and entry.free:
        chosen = replace(chosen, max_nfe=min(where.nfe, chosen.max_nfe))
    elif where.nfe is not None:
        nfe = count("nfe", where.nfe, MAX_STEPS)
        steps, chosen = fitted_steps(
            name, nfe, chosen, lambda n: grid_for(where, schedule, n or None), where.given
        )
    made = grid_for(where, schedule, steps)
    if where.automatic and not entry.free:
        options = dict(made.params)
        reasons.append(auto_reason(schedule, made.steps, where.kind, where.facts, options))
    return Request(name, chosen, made, "\n".join(reasons))


def requested_file(
    sampler: str, schedule: Schedule, options: Mapping[str, Any], where: GridRequest
) -> Request:
    """The request of a plan file, ``"file:PATH"``. PlanError for a file that is none or was tuned
    for another schedule (with ``force=True`` only where its nodes are not on ``schedule``)."""
    made, file = file_options(sampler, options), plan_file(sampler)
    if not made.force:
        check_made_for_schedule(sampler, file.made_for, schedule)
    asked = requested_plan(sampler, file.plan, schedule, where)
    return replace(asked, options=made, made_for=None if made.force else file.made_for)


def requested_plan(name: str, plan: Plan, schedule: Schedule, where: GridRequest) -> Request:
    """The request of a plan that is there already. SamplerError for arguments of the grid, which
    the plan has; ``nfe`` may be given, and must be the plan's."""
    named = where.grid if isinstance(where.grid, Grid) or where.grid not in (None, "auto") else None
    given: dict[str, Any] = {"steps": where.steps, "grid": named, "start": where.start}
    given |= {"times": where.times, "sigmas": where.sigmas}
    given |= {"final": where.final if where.final != "zero" else None}
    for key, value in given.items():
        if value is not None:
            raise registry.SamplerError(
                f"{name} is a plan of {plan.nfe} network calls with its own times, so "
                f"{key}={shown(value)} cannot be used: leave it out"
            )
    if where.nfe not in (None, plan.nfe):
        raise registry.SamplerError(
            f"{name} is a plan of {plan.nfe} network calls, not of nfe={where.nfe}"
        )
    return Request(name, None, Grid.from_nodes(plan.nodes, schedule), fixed=plan)


def resolve(
    sampler: str, options: dict[str, Any], grid: str | Grid | None
) -> tuple[str, dict[str, Any], str | Grid | None]:
    """Return sampler name, options and grid, with an alias replaced by the sampler that it refers
    to."""
    if not isinstance(sampler, str):
        raise registry.SamplerError(unknown("sampler", sampler, registry.names()))
    if is_file(sampler) or sampler in registry.names():
        return sampler, options, grid
    refuse_token_samplers(sampler)
    if sampler in ALIASES:
        alias = ALIASES[sampler]
        return (
            alias.sampler,
            {**alias.options, **options},
            alias.grid if grid == "auto" and alias.grid else grid,
        )
    near = nearest(sampler)
    hint = "" if near is None else f"; the nearest alias is {near!r} ({ALIASES[near].sampler})"
    raise registry.SamplerError(unknown("sampler", sampler, registry.names()) + hint)

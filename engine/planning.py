"""``fewstep.plan``: names and numbers in, a plan out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..checks import ArgumentError, integer, unknown
from ..plans.instructions import Plan
from ..samplers import registry
from ..samplers.aliases import ALIASES
from ..samplers.budgets import fitted_steps
from ..samplers.floors import warn_of_floor
from ..schedules.base import Schedule
from ..schedules.grids.construction import MAX_STEPS, Grid
from ..schedules.grids.construction import grid as make_grid

#: steps where neither steps nor nfe is given
DEFAULT_STEPS = 20
#: the largest budget of a sampler that chooses its own steps
MAX_NFE = 2**31


def plan(
    sampler: str,
    schedule: Schedule,
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
        sampler: a registered name, or another program's name for it (``fewstep.samplers.ALIASES``).
        schedule: the noising path of the model.
        steps: grid intervals; ``nfe``: a budget of network calls instead (the largest plan that
            fits). 20 steps where neither is given.
        grid: a grid's name or a ``Grid``; ``times`` or ``sigmas`` (rho values) give the nodes
            themselves.
        final: ``"zero"`` ends at sigma = 0, ``"sigma_min"`` at t_min.
        start: begin at this time of the schedule instead of t_max.
        options: the sampler's own options (``fewstep.samplers.describe``).

    Raises SamplerError or GridError for anything unknown, naming the nearest match.
    """
    asked = request(
        sampler,
        schedule,
        options,
        steps=steps,
        nfe=nfe,
        grid=grid,
        times=times,
        sigmas=sigmas,
        final=final,
        start=start,
    )
    return asked.plan()


@dataclass(frozen=True)
class Request:
    """What is to run: a registered sampler, its options, and the grid."""

    name: str
    options: Any
    grid: Grid

    @property
    def driver(self) -> bool:
        """True for what is no fixed program."""
        return registry.get(self.name).form == "driver"

    def plan(self) -> Plan:
        """The plan; SamplerError for a driver, which has none."""
        warn_of_floor(self.name, self.grid)
        return registry.build(self.name, self.grid, self.options)


def request(
    sampler: str,
    schedule: Schedule,
    options: Mapping[str, Any],
    *,
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Grid = "auto",
    times: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    final: str = "zero",
    start: float | None = None,
) -> Request:
    """The arguments of ``plan``, resolved and checked; also a driver's. ``nfe`` is the ``max_nfe``
    of one that chooses its nodes."""
    if grid is not None and not isinstance(grid, (str, Grid)):
        raise ArgumentError(
            f"grid={grid!r}: a name or a Grid is wanted; times= or sigmas= take lists"
        )
    name, given, grid = resolve(sampler, dict(options), grid)
    entry = registry.get(name)
    chosen = registry.make_options(entry, given)

    def grid_of(n: int) -> Grid:
        return grid_for(
            schedule, n, grid=grid, times=times, sigmas=sigmas, final=final, start=start
        )

    if entry.free and steps is not None:
        raise registry.SamplerError(
            f"{name} chooses its own steps: steps={steps} says nothing; give tolerances, or "
            "max_nfe="
        )
    if nfe is not None:
        if steps is not None:
            raise ArgumentError(f"steps={steps} and nfe={nfe}: give one of them")
        nfe = _count("nfe", nfe, MAX_NFE if entry.free else MAX_STEPS)
        if entry.free:
            chosen = replace(chosen, max_nfe=min(nfe, chosen.max_nfe))
        else:
            fixed = isinstance(grid, Grid) or times is not None or sigmas is not None
            steps, chosen = fitted_steps(name, nfe, chosen, grid_of, fixed)
    return Request(name, chosen, grid_of(0 if steps is None else _count("steps", steps, MAX_STEPS)))


def _count(name: str, value: int, most: int) -> int:
    found = integer(name, value, 1)
    if found > most:
        raise ArgumentError(f"{name}={found}: allowed are at most {most}")
    return found


def resolve(
    sampler: str, options: dict[str, Any], grid: str | Grid
) -> tuple[str, dict[str, Any], str | Grid]:
    """Sampler name, options and grid with an alias replaced by what it stands for."""
    if not isinstance(sampler, str):
        raise registry.SamplerError(unknown("sampler", sampler, registry.names()))
    if sampler in registry.names():
        return sampler, options, grid
    if sampler in ALIASES:
        alias = ALIASES[sampler]
        return (
            alias.sampler,
            {**alias.options, **options},
            alias.grid if grid == "auto" and alias.grid else grid,
        )
    raise registry.SamplerError(unknown("sampler", sampler, registry.names()))


def grid_for(
    schedule: Schedule,
    steps: int,
    *,
    grid: str | Grid,
    times: Sequence[float] | None,
    sigmas: Sequence[float] | None,
    final: str,
    start: float | None,
) -> Grid:
    """The grid that these arguments describe; ``steps`` 0 means: as many as given nodes say, or the
    default."""
    given = [what for what, value in (("times", times), ("sigmas", sigmas)) if value is not None]
    if isinstance(grid, Grid):
        if given or start is not None:
            raise ArgumentError(
                f"a Grid and {', '.join(given) or 'start'} were given: give one of them"
            )
        made = grid
    elif given:
        made = make_grid("custom", schedule, None, times=times, sigmas=sigmas)
    else:
        return make_grid(grid, schedule, steps or DEFAULT_STEPS, final=final, start=start)
    if made.schedule != schedule:
        raise ArgumentError(f"the grid belongs to {made.schedule}, the model to {schedule}")
    if steps and steps != made.steps:
        raise ArgumentError(f"steps={steps}, but the given grid has {made.steps}")
    return made

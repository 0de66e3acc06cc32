"""``fewstep.invert``: computes the noise from which a sampler reproduces given data.

It runs the sampler's plan on the grid in reverse order, from data to noise. This integrates the
same ODE backwards, so the error of the round trip is that of the method, of its order in the steps
(inversion of DPM-Solver and DDIM; Song et al. 2020, arXiv 2010.02502, eq. 14; Lu et al. 2022, arXiv
2206.00927).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..models.denoiser import Denoiser
from ..models.wrapper import complete
from ..plans.plan import Plan
from ..plans.running.loop import OnStep
from ..samplers import registry
from ..schedules.base import Schedule
from ..schedules.grids.construction import Grid
from ..schedules.grids.request import GridRequest
from .arguments import check_given, check_state, check_watchers
from .automatic import facts_of
from .planning import request
from .reversal import built_backward
from .sampling import Cond, _watcher, run


def invert(
    denoiser: Denoiser,
    x0: Tensor,
    sampler: str = "dpm_solver_2m",
    *,
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Grid = "auto",
    times: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    final: str = "sigma_min",
    start: float | None = None,
    cond: Cond = None,
    callback: OnStep | None = None,
    progress: bool | Callable[[int, int], None] = False,
    **options: Any,
) -> Tensor:
    """Return the state at the grid's first time (B, *shape), already scaled, that leads to ``x0``
    (B, *shape), the state at its last time.

    ``fewstep.sample(denoiser, sampler, x=result, ...)`` with the same grid, ``final`` and ``cond``
    maps the result back to ``x0``.

    Args:
        sampler, steps, nfe, grid, times, sigmas, start, options: as in ``fewstep.plan``; the grid
            is that of sampling, from noise to data.
        final: ``sigma_min``: x0 is taken as a state at t_min; ``zero``: at sigma = 0, for samplers
            on eps and velocities whose network is defined there.
        cond, callback, progress: as in ``fewstep.sample``.

    Raises SamplerError for a driver, a stochastic sampler, and a sampler whose steps cannot be
    reversed (data predictions from sigma = 0, steps in rho to alpha = 0); ConversionError if the
    network's prediction cannot be converted there.
    """
    denoiser = complete(denoiser)
    check_given(x0=x0)
    check_watchers(callback, progress)
    # the state of a mean-reverting path is x - offset
    offset = denoiser.offset
    x = x0 if offset is None else x0 - offset.to(x0)
    check_state(x, denoiser)
    facts = facts_of(denoiser, x.shape[1:])
    where = GridRequest(steps, nfe, grid, times, sigmas, final, start, facts=facts)
    plan = inverse_plan(sampler, denoiser.schedule, options, where)
    out = run(plan, denoiser, x, cond=cond, on_step=_watcher(callback, progress, plan.nfe))
    return out if offset is None else out + offset.to(out)


def inverse_plan(
    sampler: str, schedule: Schedule, options: Mapping[str, Any], where: GridRequest
) -> Plan:
    """Return the plan of ``sampler`` on the grid ``where``, from its last node to its first."""
    asked = request(sampler, schedule, options, where)
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
    return built_backward(asked.name, asked.options, asked.grid)

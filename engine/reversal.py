"""The plan of a sampler on a reversed grid, from data to noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..plans.plan import Plan
from ..samplers import registry
from ..schedules.grids.construction import Grid


def reversed_plan(name: str, given: Mapping[str, Any], forward: Grid) -> Plan:
    """Return the plan of the sampler ``name`` with the options ``given`` from the last node of the
    grid ``forward`` to its first.

    Raises SamplerError for a driver, a sampler that draws noise, and one that has no plan there,
    naming one that has.
    """
    entry = registry.get(name)
    options = registry.make_options(entry, given)
    if entry.form == "driver":
        raise registry.SamplerError(
            f"{name} is a driver, which cannot be inverted; use a sampler with a plan, "
            "such as dpm_solver_2m"
        )
    if entry.tau_of(options) > 0.0:
        raise registry.SamplerError(
            f"{name} draws noise and cannot be inverted; use a deterministic sampler, or tau=0"
        )
    return built_backward(name, options, forward)


def built_backward(name: str, options: Any, forward: Grid) -> Plan:
    """``reversed_plan`` of a deterministic sampler with options of ``make_options``."""
    back = Grid(
        forward.schedule,
        forward.times[::-1],
        forward.nodes[::-1],
        forward.name,
        (*forward.params, ("reversed", True)),
        forward.final,
    )
    try:
        plan = registry.build(name, back, options)
    except (ValueError, ZeroDivisionError) as error:
        raise registry.SamplerError(
            f"{name} has no plan from t={back.times[0]} (sigma={back[0].sigma:.3g}) up "
            f"to t={back.times[-1]} "
            f"(alpha={back[-1].alpha:.3g}): {error}; dpm_solver_2m has one"
        ) from error
    if plan.stochastic:
        raise registry.SamplerError(
            f"{name} draws noise and cannot be inverted; use a deterministic sampler"
        )
    return plan

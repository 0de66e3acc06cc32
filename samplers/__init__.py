"""Samplers, each a function (builder, grid, options) -> Plan or a driver, and the registry that
maps names to them. Each file holds one family."""

from __future__ import annotations

import dataclasses
from typing import Any

from . import drivers, guided, multistep, reversible, singlestep
from .aliases import ALIASES, Alias, find
from .budgets import fitted_steps
from .drivers.driver import BudgetError, StepSizeError
from .families import import_all
from .floors import FLOORS
from .from_file import is_file as is_file
from .option_names import aliases
from .registry import (
    NoOptions,
    Sampler,
    SamplerError,
    build,
    current_names,
    get,
    make_options,
    names,
    register,
)

#: with guidance, the samplers that read several predictions
NO_ORDER = "none: the strength depends on the grid"

for _folder in (multistep, singlestep, reversible, guided, drivers):
    import_all(_folder)

__all__ = [
    "ALIASES",
    "NO_ORDER",
    "Alias",
    "BudgetError",
    "NoOptions",
    "Sampler",
    "SamplerError",
    "StepSizeError",
    "build",
    "current_names",
    "describe",
    "find",
    "fitted_steps",
    "get",
    "make_options",
    "names",
    "register",
]


def describe(name: str) -> dict[str, Any]:
    """Describe a sampler: summary, source, options with defaults, declared order, tau, and its
    names in other programs.

    ``order_guided``: what is left of the order with guidance, for samplers that read several
    predictions of a guided model; None for the others. ``table_floor``: error below which more
    steps do not help on a table (``DiscreteVP``), for samplers that step in t; None for the others.
    """
    sampler = get(name)
    options = sampler.options()
    own = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    return {
        "name": name,
        "summary": sampler.summary,
        "source": sampler.source,
        "form": sampler.form,
        "order": sampler.order_of(options),
        "order_guided": NO_ORDER if sampler.guided else None,
        "stochastic": sampler.tau_of(options) > 0.0,
        "table_floor": FLOORS.get(name),
        "options": {**own, "afs": False} if sampler.form == "plan" else own,
        "option_aliases": aliases(sampler.options),
        "aliases": {alias: entry.note for alias, entry in ALIASES.items() if entry.sampler == name},
    }

"""Samplers: one family a file, each a function (builder, grid, options) -> Plan, and the registry
that names them."""

from __future__ import annotations

import dataclasses
from typing import Any

from .aliases import ALIASES, Alias, find
from .budgets import fitted_steps

# importing a family registers it
from .drivers import adaptive_sde, dmcmc, dpm_adaptive, ode, picard, predictor_corrector  # noqa: F401
from .drivers.driver import BudgetError, StepSizeError
from .floors import FLOORS
from .multistep import (  # noqa: F401
    deis,
    dpm_solver_sde,
    er_sde,
    exponential_adams,
    momentum,
    multistep,
    pndm,
    sa_solver,
)
from .registry import (
    NoOptions,
    Sampler,
    SamplerError,
    build,
    get,
    make_options,
    names,
    register,
)
from .singlestep import (  # noqa: F401
    ancestral,
    dpm_solver,
    exponential_rk,
    flow_sde,
    interpolants,
    mean_reverting,
    pfgmpp,
    renoising,
    restart,
    runge_kutta,
    seeds,
    two_stage_sde,
)

__all__ = [
    "ALIASES",
    "Alias",
    "BudgetError",
    "NoOptions",
    "Sampler",
    "SamplerError",
    "StepSizeError",
    "build",
    "describe",
    "find",
    "fitted_steps",
    "get",
    "make_options",
    "names",
    "register",
]


def describe(name: str) -> dict[str, Any]:
    """What a sampler is: summary, source, options with defaults, declared order, tau, and its names
    elsewhere.

    ``table_floor``: the error that more steps do not lower on a table (``DiscreteVP``), for
    samplers that step in t; None for the others.
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
        "stochastic": sampler.tau_of(options) > 0.0,
        "table_floor": FLOORS.get(name),
        "options": {**own, "afs": False} if sampler.form == "plan" else own,
        "aliases": {alias: entry.note for alias, entry in ALIASES.items() if entry.sampler == name},
    }

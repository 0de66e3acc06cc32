"""Samplers: one family a file, each a function (builder, grid, options) -> Plan, and the registry that names them."""

from __future__ import annotations

import dataclasses
from typing import Any

from . import ancestral, deis, multistep, pndm, runge_kutta, singlestep  # noqa: F401  (importing a family registers it)
from .aliases import ALIASES, Alias, find
from .registry import NoOptions, Sampler, SamplerError, build, fitted_steps, get, make_options, names, register

__all__ = [
    "ALIASES",
    "Alias",
    "NoOptions",
    "Sampler",
    "SamplerError",
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
    """What a sampler is: summary, source, options with defaults, declared order, tau, and its names elsewhere."""
    sampler = get(name)
    options = sampler.options()
    return {
        "name": name,
        "summary": sampler.summary,
        "source": sampler.source,
        "form": sampler.form,
        "order": sampler.order_of(options),
        "stochastic": sampler.tau_of(options) > 0.0,
        "options": {f.name: getattr(options, f.name) for f in dataclasses.fields(options)},
        "aliases": {alias: entry.note for alias, entry in ALIASES.items() if entry.sampler == name},
    }

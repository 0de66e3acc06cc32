"""The sampler that a config asks for: ``sampler=`` with its options, or the counterpart of the class that wrote the config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..engine.planning import resolve
from ..samplers import registry
from .diffusers_config import OWN, ConfigError, Settings, known
from .diffusers_counterparts import counterpart


def split_options(config: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keyword arguments of ``from_config`` as config keys and as options of the sampler; a name that is both is an option."""
    sampler = given.get("sampler", config.get("sampler"))
    fields = option_names(sampler) if sampler is not None else set()
    options = {k: v for k, v in given.items() if k in fields and k not in OWN}
    keys = {k: v for k, v in given.items() if k not in options}
    for key in keys:
        if sampler is None and key not in known() and key not in OWN and not key.startswith("_"):
            raise ConfigError(f"{key}={keys[key]!r} is no config key; for an option of a sampler, name the sampler too (sampler=)")
    return keys, options


def option_names(sampler: str) -> set[str]:
    """Names of a sampler's options."""
    name, _, _ = resolve(sampler, {}, "auto")
    return {f.name for f in dataclasses.fields(registry.get(name).options)} | {"afs"}


def choose(config: Mapping[str, Any], settings: Settings, steps: int) -> tuple[str, Any, Settings]:
    """Registered name, checked options and settings (an alias may name a grid) for a run of ``steps`` steps. SamplerError, ConfigError."""
    if config.get("sampler") is None:
        name, options = counterpart(config, steps)
        return name, registry.make_options(registry.get(name), options), settings
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in (config.get("sampler_options") or {}).items()}
    name, options, grid = resolve(config["sampler"], given, "auto")
    entry = registry.get(name)
    if entry.form == "driver":
        raise ConfigError(f"sampler={name!r} chooses its network calls as it goes, which a pipeline's list of times cannot follow")
    order = config.get("solver_order")
    if order is not None and "order" not in given and "order" in option_names(name):
        options = {**options, "order": order}
    if grid != "auto" and settings.grid is None and not settings.special:
        special = grid if grid in ("karras", "exponential") else ""
        settings = dataclasses.replace(settings, special=special, grid=None if special else str(grid))
    return name, registry.make_options(entry, options), settings


def check_order(config: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """ConfigError where ``solver_order`` was asked of a sampler that has one order only."""
    if given.get("solver_order") is None or config.get("sampler") is None:
        return
    if "order" not in option_names(config["sampler"]):
        raise ConfigError(
            f"solver_order={given['solver_order']!r}: {config['sampler']} has no choice of order; unipc, deis, lms and ipndm have, "
            f"dpmpp_3m is the third-order dpmpp_2m"
        )

"""The configs of the installed diffusers: every key of every class, with its default, and which class a config belongs to.

What a config means is read by ``schedules.scheduler_config``. Keys that no class has may change results and are refused; the others are
kept and written back.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from ..checks import unknown
from ..schedules import scheduler_config
from ..schedules.errors import ConfigError
from ..schedules.scheduler_classes import STYLES
from ..schedules.scheduler_config import Settings

__all__ = ["OWN", "STYLES", "ConfigError", "Settings", "complete", "defaults", "known", "origin_of", "read"]

#: what this class adds to a config
OWN = ("sampler", "solver_order", "sampler_options", "grid", "round_timesteps", "noise_seed", "origin")
#: values that change a solver's results and have no counterpart here: key -> (the values that are fine, what to do instead)
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "tau_func": ((None,), 'give sampler="sa_solver" with tau= and interval='),
    "solver_p": ((None,), "leave it out: the predictor is part of the sampler"),
}


@cache
def defaults(origin: str) -> Mapping[str, Any]:
    """The defaults of a diffusers class, by its signature. ConfigError for a class that is not known here."""
    import diffusers

    if origin not in STYLES:
        raise ConfigError(unknown("scheduler class", origin, STYLES))
    parameters = inspect.signature(getattr(diffusers, origin).__init__).parameters
    return {k: p.default for k, p in parameters.items() if k not in ("self", "kwargs", "args")}


@cache
def known() -> frozenset[str]:
    """Every key of the classes in ``STYLES``."""
    return frozenset(key for origin in STYLES for key in defaults(origin))


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with its class's defaults filled in; ConfigError for keys that no class has."""
    for key in config:
        if not key.startswith("_") and key not in known() and key not in OWN:
            raise ConfigError(unknown("config key", key, sorted(known() | set(OWN))) + "; it may change results, so it is not ignored")
    kept = {k: v for k, v in config.items() if not k.startswith("_")}
    origin = origin_of(config)
    return {**defaults(origin), **kept, "origin": origin}


def origin_of(config: Mapping[str, Any]) -> str:
    """The class whose conventions hold: ``origin``, else ``_class_name``, else the one class that has exactly these keys.

    (A scheduler made by its constructor keeps no ``_class_name`` in its config.) ConfigError where several do and they differ.
    """
    name = config.get("origin") or config.get("_class_name")
    if name is not None and name != "FewstepScheduler":
        return str(name)
    keys = {k for k in config if not k.startswith("_") and k not in set(OWN) - known()}
    found = [origin for origin in STYLES if set(defaults(origin)) == keys]
    if not found:
        found = [origin for origin in STYLES if set(defaults(origin)) == keys | {"solver_order"}]
    if not found or (len(found) > 1 and config.get("sampler") is None):
        what = f"{', '.join(found)} have these keys" if found else "no class has exactly these keys"
        raise ConfigError(f"the config names no class (_class_name) and {what}: give origin=, the class that it belongs to")
    return found[0]


def read(config: Mapping[str, Any]) -> Settings:
    """The meaning of a completed config. ConfigError names key, value and what to do."""
    for key, (fine, instead) in REFUSED.items():
        if config.get(key) not in fine:
            raise ConfigError(f"{key}={config[key]!r} is not supported: {instead}")
    return scheduler_config.read(config)

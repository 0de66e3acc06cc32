"""Configs of diffusers' schedulers: every key of every class with its default, and the keys that
fewstep adds.

``schedules.diffusers.config`` interprets a config, ``origin`` finds the class that it belongs to. A
key that no class has raises ConfigError, because it may be meant to change the result; all other
keys are kept and written back.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from ...checks import ConfigError, shown, unknown
from ...schedules.diffusers import config as scheduler_config
from ...schedules.diffusers.classes import STYLES, class_defaults
from ...schedules.diffusers.config import Settings
from ...schedules.diffusers.values import checked
from ...schedules.grids.registry import option_names

__all__ = [
    "OWN",
    "STYLES",
    "ConfigError",
    "Settings",
    "complete",
    "defaults",
    "known",
    "read",
    "same",
]

#: what this class adds to a config
OWN = (
    "sampler",
    "solver_order",
    "sampler_options",
    "grid",
    "round_timesteps",
    "noise_seed",
    "origin",
    "grid_options",
)
#: values that change a solver's results and have no counterpart here: key -> (the values that are
#: fine, what to do instead)
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "tau_func": ((None,), 'give sampler="sa_solver" with tau= and interval='),
    "solver_p": ((None,), "leave it out: the predictor is part of the sampler"),
}


@cache
def installed(origin: str) -> Mapping[str, Any]:
    """The defaults of a class of the installed diffusers, by its signature; empty where it has no
    such class."""
    import diffusers

    found = getattr(diffusers, origin, None)
    parameters = {} if found is None else inspect.signature(found.__init__).parameters
    return {k: p.default for k, p in parameters.items() if k not in ("self", "kwargs", "args")}


@cache
def defaults(origin: str) -> Mapping[str, Any]:
    """The keys of a class with their defaults: those of all supported versions, and what the
    installed one adds. ConfigError for a class that is not known here."""
    if origin not in STYLES:
        raise ConfigError(unknown("scheduler class", origin, STYLES))
    return {**class_defaults(origin), **installed(origin)}


@cache
def known() -> frozenset[str]:
    """Every key of the classes in ``STYLES``."""
    return frozenset(key for origin in STYLES for key in defaults(origin))


@cache
def understood() -> frozenset[str]:
    """Keys of ``known`` that fewstep reads or may safely ignore."""
    return frozenset(key for origin in STYLES for key in class_defaults(origin))


def complete(config: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The keys of ``config``, checked, with the defaults of the class ``origin`` filled in.
    ConfigError for keys that no class has."""
    kept = {k: v for k, v in config.items() if not k.startswith("_")}
    for key, value in kept.items():
        if key not in known() and key not in OWN:
            raise ConfigError(_unknown_key(key, value))
        if (
            key not in understood()
            and key not in OWN
            and not any(same(value, defaults(o).get(key, ...)) for o in STYLES)
        ):
            raise ConfigError(
                f"{key}={value!r}: this key is newer than this version of fewstep, which "
                "serves its default value only"
            )
    own_values(kept)
    return checked(
        {
            **defaults(origin),
            **kept,
            "origin": origin,
            "sampler_options": dict(kept.get("sampler_options") or {}),
            "grid_options": dict(kept.get("grid_options") or {}),
        }
    )


def _unknown_key(key: str, value: Any) -> str:
    """Why ``key``, which no class has, is refused; what to give if grids have an option of that
    name."""
    text = unknown("config key", key, sorted(known() | set(OWN)))
    text += "; it may change results, so it is not ignored"
    grids = f"; for the option of a named grid give grid_options={{{key!r}: {shown(value)}}}"
    return text + grids if key in option_names() else text


def own_values(config: Mapping[str, Any]) -> None:
    """Raise ConfigError if a key of ``OWN`` holds a value of the wrong type. The sampler and the
    grid check the values later."""
    for key in ("sampler", "grid"):
        if config.get(key) is not None and not isinstance(config[key], str):
            raise ConfigError(f"{key}={config[key]!r} must be a name")
    for key in ("sampler_options", "grid_options"):
        options = config.get(key)
        if options is not None and not (
            isinstance(options, Mapping) and all(isinstance(name, str) for name in options)
        ):
            raise ConfigError(f"{key}={options!r} must be a mapping from option names to values")


def same(a: Any, b: Any) -> bool:
    """True if two config values are equal; arrays and tensors equal only themselves."""
    return a is b or (not hasattr(a, "shape") and not hasattr(b, "shape") and bool(a == b))


def read(config: Mapping[str, Any]) -> Settings:
    """Interpret a completed config. Raises ConfigError that names the key, its value and the
    remedy."""
    for key, (fine, instead) in REFUSED.items():
        if config.get(key) is not None and config[key] not in fine:
            raise ConfigError(f"{key}={config[key]!r} is not supported: {instead}")
    return scheduler_config.read(config)

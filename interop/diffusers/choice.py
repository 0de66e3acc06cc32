"""Selects the sampler for a config: ``sampler=`` with its options, or the counterpart of the
diffusers class that wrote the config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ...checks import FewstepError
from ...engine.automatic import AUTO, automatic_sampler
from ...engine.planning import resolve
from ...engine.provenance import check_made_for_schedule
from ...samplers import registry
from ...samplers.from_file import FileOptions, file_options, is_file, plan_file
from ...samplers.kinds import kind_of
from ...samplers.option_names import meanings
from ...schedules.diffusers.grids import facts_of, grid_of
from ...schedules.grids.request import GridRequest
from .config import OWN, ConfigError, Settings, defaults, known, own_values
from .counterparts import counterpart

#: keys of a config that become options of its counterpart
ORDERS = (
    "solver_order",
    "predictor_order",
    "corrector_order",
    "disable_corrector",
    "timestep_scaling",
)
#: what Python raises where an option is of a kind that no arithmetic takes
RAW = (TypeError, KeyError, IndexError, AttributeError, ZeroDivisionError, OverflowError)


def split_options(
    config: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keyword arguments of ``from_config`` as config keys and as options of the sampler; a name
    that is both is an option."""
    own_values({**config, **given})
    sampler = given.get("sampler", config.get("sampler"))
    fields = option_names(sampler) if sampler is not None else set()
    if sampler == AUTO:  # which refuses them
        fields = {key for key in given if key not in known() and not key.startswith("_")}
    options = {k: v for k, v in given.items() if k in fields and k not in OWN}
    keys = {k: v for k, v in given.items() if k not in options}
    for key in keys:
        if sampler is None and key not in known() and key not in OWN and not key.startswith("_"):
            raise ConfigError(
                f"{key}={keys[key]!r} is no config key; for an option of a sampler, name the "
                "sampler too (sampler=)"
            )
    return keys, options


def option_names(sampler: str) -> set[str]:
    """Names of a sampler's options."""
    if sampler == AUTO:
        return {"afs"}
    name, _, _ = resolve(sampler, {}, "auto")
    options = registry.get(name).options
    return {f.name for f in dataclasses.fields(options)} | {"afs", *meanings(options)}


def choose(config: Mapping[str, Any], settings: Settings, steps: int) -> tuple[str, Any, Settings]:
    """Registered name, checked options and settings for a run of ``steps`` steps: an alias may name
    a grid, and grid "auto" depends on the kind of sampler. SamplerError, ConfigError."""
    named = config.get("sampler") is not None
    name, options, settings = (_named if named else _counterpart)(config, settings, steps)
    if settings.grid == "auto":
        settings = dataclasses.replace(settings, kind=kind_of(name, options))
    return name, options, settings


def _counterpart(
    config: Mapping[str, Any], settings: Settings, steps: int
) -> tuple[str, Any, Settings]:
    """``choose`` for a config without a sampler."""
    if config.get("sampler_options"):
        raise ConfigError(
            f"sampler_options={dict(config['sampler_options'])!r}: name the sampler that "
            "they belong to (sampler=)"
        )
    name, options = counterpart(config, steps)
    try:
        return name, registry.make_options(registry.get(name), options), settings
    except registry.SamplerError as error:
        asked = {k: config[k] for k in ORDERS if config.get(k) is not None}
        raise ConfigError(
            f"{config['origin']} with {', '.join(f'{k}={v!r}' for k, v in asked.items())}: {error}"
        ) from None


def _named(config: Mapping[str, Any], settings: Settings, steps: int) -> tuple[str, Any, Settings]:
    """``choose`` for a config with a sampler."""
    given = {
        k: tuple(v) if isinstance(v, list) else v
        for k, v in (config.get("sampler_options") or {}).items()
    }
    sampler = config["sampler"]
    if sampler == AUTO:
        where = GridRequest(steps=steps, facts=facts_of(settings))
        sampler, options, reason = automatic_sampler(where, settings.schedule, given)
        given, settings = dict(options), dataclasses.replace(settings, reason=reason)
    name, options, grid = resolve(sampler, given, "auto")
    entry = registry.get(name)
    if entry.form == "driver":
        raise ConfigError(
            f"sampler={name!r} chooses its network calls as it goes, which a pipeline's list "
            "of times cannot follow"
        )
    if is_file(name):
        return name, _file_options(name, given, settings), settings
    order = config.get("solver_order")
    if order is not None and "order" not in given and "order" in option_names(name):
        options = {**options, "order": order}
    if grid != "auto" and settings.grid is None and not settings.special:
        special = grid if grid in ("karras", "exponential") else ""
        settings = dataclasses.replace(
            settings, special=special, grid=None if special else str(grid)
        )
    # the last step gives data, not the table's first entry
    if name in ("lcm", "consistency") and config.get("final_sigmas_type") is None:
        settings = dataclasses.replace(settings, end="zero")
    # saved by any version: no warning
    return name, registry.make_options(entry, options, warn=False), settings


def _file_options(name: str, given: Mapping[str, Any], settings: Settings) -> FileOptions:
    """The options of a plan file. PlanError where it was tuned for another schedule; the network
    and its guidance are the pipeline's, which are not known here."""
    options = file_options(name, given)
    if settings.grid is not None or settings.special:
        raise ConfigError(
            f"sampler={name!r} has its own times, so grid={settings.grid or settings.special!r} "
            "cannot be used: leave it out"
        )
    if not options.force:
        check_made_for_schedule(name, plan_file(name).made_for, settings.schedule)
    return options


def trial(config: Mapping[str, Any], settings: Settings) -> None:
    """Validate the sampler of a config by building a short plan with its options (``read`` checks
    the grid's).

    Raises ConfigError or SamplerError. A run that is impossible only for its number of steps is
    not rejected here.
    """
    options = dict(config.get("sampler_options") or {})
    try:
        name, made, settings = choose(config, settings, 20)
        hash(made)
    except RAW as error:
        raise ConfigError(
            f"sampler={config.get('sampler')!r} with sampler_options={options!r}: {error}"
        ) from None
    if not options:
        return
    try:
        registry.build(name, grid_of(settings, 5, mu=0.5 if settings.dynamic else None), made)
    except RAW as error:
        raise ConfigError(
            f"sampler={config['sampler']!r} with sampler_options={options!r}: {error}"
        ) from None
    except (FewstepError, ArithmeticError):
        # of this length: set_timesteps says so where it matters
        return


def check_direct_order(config: Mapping[str, Any], order: Any) -> None:
    """ConfigError where ``solver_order`` was given, and neither the sampler nor the config's class
    has one."""
    if order is not None and "solver_order" not in defaults(config["origin"]):
        if config.get("sampler") is None:
            raise ConfigError(
                f"solver_order={order!r}: {config['origin']} has no order; name a sampler "
                "that has one (sampler=)"
            )
        check_order(config, {"solver_order": order})


def check_order(config: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """ConfigError where ``solver_order`` was asked of a sampler that has one order only."""
    if given.get("solver_order") is None or config.get("sampler") is None:
        return
    if "order" not in option_names(config["sampler"]):
        raise ConfigError(
            f"solver_order={given['solver_order']!r}: {config['sampler']} has no choice of "
            "order; unipc, deis, lms and ipndm have, "
            f"dpmpp_3m is the third-order dpmpp_2m"
        )

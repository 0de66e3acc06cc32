"""Determines the diffusers class that a config belongs to, and which of its values were set by a
caller.

A scheduler loaded from a folder keeps the name of its class in its config (``_class_name``). A
scheduler made by its constructor does not; its keys are then the only evidence. diffusers lists the
keys left at their defaults in ``_use_default_values``: another class does not inherit them and uses
its own defaults.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from diffusers import SchedulerMixin

from ...checks import unknown
from ...schedules.diffusers.classes import INVERSE, LATER, NOT_SERVED, SAME
from ...schedules.diffusers.named_grids import OURS, renewed
from .config import OWN, STYLES, ConfigError, complete, defaults, known, read, same
from .edits import by_hand

#: the key under which diffusers lists the keys that nobody gave
UNSET = "_use_default_values"
#: a config that holds all of these is one of ours; another class keeps only those that were given
MARKS = frozenset(OWN) - {"origin", "solver_order", "grid_options"}
#: what the keys of this class hold where nobody gave them
EMPTY: dict[str, Any] = {
    "sampler": None,
    "sampler_options": {},
    "grid": None,
    "grid_options": {},
    "round_timesteps": False,
    "noise_seed": None,
}
REMEDY = (
    "pass the scheduler object itself in place of its config, or give origin=, the class that "
    "the config belongs to"
)


def source(config: Any) -> dict[str, Any]:
    """Return a config, or the config of a scheduler object with its class name added, as a dict; a
    config of version 0.1 with the grid that it had. Raises ConfigError for anything else."""
    if isinstance(config, SchedulerMixin):
        made = config.config  # type: ignore[attr-defined]
        config = {**made, **by_hand(made), "_class_name": type(config).__name__}
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"config={config!r} must be a scheduler or its config (a mapping); "
            "from_pretrained takes a folder or a name"
        )
    if wrong := [key for key in config if not isinstance(key, str)]:
        raise ConfigError(f"config: its keys must be strings, but {wrong[0]!r} is none")
    return renewed({**config, **by_hand(config)})


def known_class(name: Any) -> str:
    """Return the class in ``STYLES`` whose steps ``name`` takes. Raises ConfigError if there is
    none."""
    found = SAME.get(name, name) if isinstance(name, str) else name
    if isinstance(name, str) and name in INVERSE:
        raise ConfigError(
            f"{name} goes from data to noise, and this scheduler from noise to data: call "
            "fewstep.interop.diffusers.invert(scheduler, denoiser, x0, steps) for the noise of x0, "
            f"or load {INVERSE[name]}, its counterpart"
        )
    if not isinstance(found, str) or found not in STYLES:
        raise ConfigError(unknown("scheduler class", name, STYLES))
    return found


def candidates(config: Mapping[str, Any]) -> list[str]:
    """Return the classes whose configs have exactly these keys in some supported version, including
    those of ``NOT_SERVED``.

    Where the classes differ in a default value, a value that was left at its default
    (``_use_default_values``) decides between them.
    """
    keys = {k for k in config if not k.startswith("_") and (k not in OWN or k in known())}
    whole = {
        origin: set(defaults(NOT_SERVED.get(origin, origin))) for origin in (*STYLES, *NOT_SERVED)
    }
    found = [origin for origin, full in whole.items() if full == keys]
    if not found:
        found = [
            origin
            for origin, full in whole.items()
            if full - LATER.get(origin, set()) - {"solver_order"} <= keys <= full
        ]
    telling = [
        key
        for key in keys & _unset(config)
        if any(not same(_default(o, key), _default(found[0], key)) for o in found)
    ]
    told = [
        origin
        for origin in found
        if all(same(config[key], _default(origin, key)) for key in telling)
    ]
    return told or found


def _default(origin: str, key: str) -> Any:
    return defaults(NOT_SERVED.get(origin, origin)).get(key, ...)


def _unset(config: Mapping[str, Any]) -> frozenset[str]:
    """Keys left at their defaults, as diffusers lists them."""
    listed = config.get(UNSET)
    return (
        frozenset(k for k in listed if isinstance(k, str))
        if isinstance(listed, (list, tuple, set, frozenset))
        else frozenset()
    )


def origin_of(config: Mapping[str, Any]) -> str:
    """Return the class whose conventions apply: ``_class_name``, else ``origin``, else the only
    class that has exactly these keys.

    Classes with the same keys are distinguished only if the run depends on the difference: with
    ``sampler=``, a difference in the class's own sampler or in the end of its last step does not
    count. Raises ConfigError that lists the candidates if more than one remains.
    """
    name, stated = config.get("_class_name"), config.get("origin")
    if name is not None and name != OURS:
        return known_class(name)
    if stated is not None:
        return known_class(stated)
    found = candidates(config)
    if not found:
        raise ConfigError(
            "the config names no class (_class_name) and no class served here has exactly "
            f"these keys: {REMEDY}"
        )
    served = [origin for origin in found if origin in STYLES]
    if len(found) == 1 or (
        config.get("sampler") is not None
        and len({_meaning(config, origin) for origin in served}) == 1
    ):
        return served[0]
    raise ConfigError(
        f"the config names no class (_class_name), and {', '.join(found)} have these keys: {REMEDY}"
    )


def _meaning(config: Mapping[str, Any], origin: str) -> Any:
    """Interpretation of a config as one of the class ``origin``, without its own sampler and its
    end."""
    return dataclasses.replace(read(complete(config, origin)), origin="", end="zero")


def given(config: Mapping[str, Any], origin: Any = None) -> tuple[dict[str, Any], str]:
    """Return the values of ``config`` that a caller set, and the class whose conventions apply:
    ``origin``, else the config's own.

    A key left at its default (``_use_default_values``) takes that class's default. If such a key
    holds a value other than its class's default, it was set after all (some pipelines replace such
    values) and is kept.
    """
    name = config.get("_class_name")
    ours = name == OURS or (name is None and config.keys() >= MARKS)
    target = origin_of(config) if origin is None else known_class(origin)
    if name is not None and name != OURS:
        own = [SAME.get(name, name)] if isinstance(name, str) else []
    elif config.get("origin") is not None:
        # kept by a scheduler of another class, which is not named
        own = [config["origin"]] if ours else []
    else:
        own = [NOT_SERVED.get(o, o) for o in candidates(config)]
    was = [defaults(o) for o in own if o in STYLES]
    unset, kept = _unset(config), {}
    for key, value in config.items():
        default = same(value, {**EMPTY, **defaults(target)}.get(key, ...))
        inherited = target not in own and (
            not was or any(same(value, d.get(key, ...)) for d in was)
        )
        if not key.startswith("_") and not (key in unset and (default or inherited)):
            kept[key] = value
    return kept, target

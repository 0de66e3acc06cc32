"""The diffusers class that a config belongs to, and which of its values somebody gave.

A scheduler loaded from a folder keeps the name of its class in its config (``_class_name``); one
made by its constructor does not, and then its keys are all that is known. diffusers lists in
``_use_default_values`` the keys that nobody gave: another class does not inherit them but uses
defaults of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from diffusers import SchedulerMixin

from ...checks import unknown
from ...schedules.diffusers.classes import LATER, NOT_SERVED, SAME
from .config import OWN, STYLES, ConfigError, complete, defaults, known, read, same
from .edits import by_hand

OURS = "FewstepScheduler"
#: the key under which diffusers lists the keys that nobody gave
UNSET = "_use_default_values"
#: a config that holds all of these is one of ours; another class keeps only those that were given
MARKS = frozenset(OWN) - {"origin", "solver_order"}
#: what the keys of this class hold where nobody gave them
EMPTY: dict[str, Any] = {
    "sampler": None,
    "sampler_options": {},
    "grid": None,
    "round_timesteps": False,
    "noise_seed": None,
}
REMEDY = (
    "pass the scheduler object itself in place of its config, or give origin=, the class that "
    "the config belongs to"
)


def source(config: Any) -> dict[str, Any]:
    """A config, or the config of a scheduler object with the name of its class, as a dict.
    ConfigError for anything else."""
    if isinstance(config, SchedulerMixin):
        made = config.config  # type: ignore[attr-defined]
        config = {**made, **by_hand(made), "_class_name": type(config).__name__}
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"config={config!r}: a scheduler or its config (a mapping) is wanted; "
            "from_pretrained takes a folder or a name"
        )
    if wrong := [key for key in config if not isinstance(key, str)]:
        raise ConfigError(f"config: its keys must be strings, but {wrong[0]!r} is none")
    return {**config, **by_hand(config)}


def known_class(name: Any) -> str:
    """The class in ``STYLES`` that ``name`` steps as. ConfigError where there is none."""
    found = SAME.get(name, name) if isinstance(name, str) else name
    if not isinstance(found, str) or found not in STYLES:
        raise ConfigError(unknown("scheduler class", name, STYLES))
    return found


def candidates(config: Mapping[str, Any]) -> list[str]:
    """The classes whose configs have exactly these keys in some supported version; those of
    ``NOT_SERVED`` are among them.

    Where the classes differ in a default, a value that nobody gave (``_use_default_values``) tells
    which it is.
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
    """The keys that nobody gave, as diffusers lists them."""
    listed = config.get(UNSET)
    return (
        frozenset(k for k in listed if isinstance(k, str))
        if isinstance(listed, (list, tuple, set, frozenset))
        else frozenset()
    )


def origin_of(config: Mapping[str, Any]) -> str:
    """The class whose conventions hold: ``_class_name``, else ``origin``, else the one class that
    has exactly these keys.

    Classes with the same keys are told apart only where the run depends on it: with ``sampler=`` a
    difference in the sampler alone, or in where its last step ends, is none. ConfigError names the
    candidates otherwise.
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
    """What a config of the class ``origin`` says, apart from its own sampler and its end."""
    return dataclasses.replace(read(complete(config, origin)), origin="", end="zero")


def given(config: Mapping[str, Any], origin: Any = None) -> tuple[dict[str, Any], str]:
    """The values of ``config`` that somebody gave, and the class whose conventions hold:
    ``origin``, else the config's own.

    A key that nobody gave (``_use_default_values``) goes over to that class's default. One of them
    that holds another value than its own class's default was given after all (some pipelines
    replace such values): it is kept.
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

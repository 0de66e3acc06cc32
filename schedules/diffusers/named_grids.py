"""The named grid of a scheduler config: the keys ``grid`` and ``grid_options``, which fewstep
adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...checks import ConfigError, between, unknown
from ..base import Schedule
from ..grids.auto import former_choice
from ..grids.construction import Params
from ..grids.registry import ALIASES, AUTOMATIC, GRIDS, check_option_names, get, make_options
from .classes import STYLES

OURS = "FewstepScheduler"
#: grid ``auto`` of version 0.1
FORMER_AUTO = "auto_0_1"
#: keys of a saved config whose class is not named
MARKS = ("sampler_options", "round_timesteps", "noise_seed")


def family_name(grid: str, schedule: Schedule) -> str:
    """The family that ``grid`` is laid out by: for "auto" and "auto_0_1" the one that they stand
    for on ``schedule``."""
    if grid not in AUTOMATIC:
        return ALIASES.get(grid, grid)
    return former_choice(schedule)[0] if grid == FORMER_AUTO else "logistic"


def named_grid(config: Mapping[str, Any], schedule: Schedule) -> tuple[str | None, Params]:
    """``grid`` and ``grid_options`` of a config, the options as sorted pairs. Raises ConfigError
    for an unknown grid, an option that it does not have, and a value out of range."""
    name, given = config.get("grid"), config.get("grid_options")
    given = {} if given is None else given
    if not (isinstance(given, Mapping) and all(isinstance(key, str) for key in given)):
        raise ConfigError(f"grid_options={given!r} must be a mapping from option names to values")
    if name is None:
        if given:
            raise ConfigError(
                f"grid_options={dict(given)!r}: name the grid that they belong to (grid=)"
            )
        return None, ()
    known = (*GRIDS, *ALIASES, *AUTOMATIC)
    if not isinstance(name, str) or name not in known:
        raise ConfigError(unknown("grid", name, known))
    try:
        return name, _checked(name, schedule, given)
    except ValueError as error:
        raise ConfigError(f"grid={name!r} with grid_options={dict(given)!r}: {error}") from None


def _checked(name: str, schedule: Schedule, given: Mapping[str, Any]) -> Params:
    """The options of a grid as sorted pairs. GridError or ArgumentError for bad ones."""
    family = get(family_name(name, schedule))
    check_option_names(family, given)
    own = {key: value for key, value in given.items() if key != "shift"}
    made = make_options(family, own)
    pairs = {key: getattr(made, key) for key in own}
    if "shift" in given:
        pairs["shift"] = float(between("shift", given["shift"], 0))
    return tuple(sorted(pairs.items()))


def renewed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config that version 0.1 saved, with ``grid`` and ``grid_options`` that give its grid; other
    configs unchanged.

    Version 0.1 saved no ``grid_options``, did not apply a flow's shift to named grids, and had
    another rule behind "auto".
    """
    name, saved = config.get("grid"), config.get("_class_name") == OURS
    saved = saved or (config.get("_class_name") is None and all(key in config for key in MARKS))
    if not saved or not isinstance(name, str) or "grid_options" in config:
        return dict(config)
    flow = (
        STYLES.get(str(config.get("origin"))) == "flow"
        or bool(config.get("use_flow_sigmas"))
        or config.get("prediction_type") == "flow_prediction"
    )
    family = GRIDS.get("quadratic" if name == "auto" else ALIASES.get(name, name))
    fixed = {"shift": 1.0} if flow and family is not None and family.in_t else {}
    return {
        **config,
        "grid": FORMER_AUTO if name == "auto" else name,
        "grid_options": fixed,
    }

"""Configuration dicts: ``from_config(to_config(schedule)) == schedule``, and the keys of diffusers'
scheduler configs.

Our own form: ``{"schedule": "VPLinear", "beta_min": 0.1, "beta_max": 20.0}``; strict JSON, so
infinities are the strings "inf", "-inf".

diffusers' form, read only: ``beta_schedule`` (linear, scaled_linear, squaredcos_cap_v2, sigmoid),
``beta_start``, ``beta_end``, ``num_train_timesteps``, ``trained_betas``,
``rescale_betas_zero_snr``; flows by ``shift`` or ``flow_shift``, EDM by ``sigma_min``,
``sigma_max``, told by ``_class_name``, ``use_flow_sigmas`` or ``prediction_type``; a key left out
has the default of that class. The tables are float64; diffusers rounds its own to float32, a
relative difference of 1e-7. ``scheduler_config`` reads the rest of such a config.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..checks import ScheduleError, shown, unknown
from .base import Schedule
from .diffusers.classes import filled
from .diffusers.values import checked
from .discrete import DiscreteVP
from .flow import Flow
from .registry import SCHEDULES
from .ve import EDM

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid")
FLOW_CLASSES = (
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "FlowMatchLCMScheduler",
)
EDM_CLASSES = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")


def to_config(schedule: Schedule) -> dict[str, Any]:
    """A JSON-ready dict that ``from_config`` turns into an equal schedule. Raises ScheduleError for
    a class that is not registered."""
    name = type(schedule).__name__
    if SCHEDULES.get(name) is not type(schedule):
        raise ScheduleError(unknown("schedule class", name, SCHEDULES))
    fields = {f.name: getattr(schedule, f.name) for f in dataclasses.fields(schedule)}  # type: ignore[arg-type]
    return {"schedule": name, **{k: _encode(v) for k, v in fields.items()}}


def from_config(config: Mapping[str, Any]) -> Schedule:
    """The schedule of a dict made by ``to_config`` or of a diffusers scheduler config; keys of
    the latter that do not concern the path are ignored. Raises ScheduleError where the config
    describes no schedule, or a dict of ``to_config`` has unknown keys."""
    if not isinstance(config, Mapping):
        raise ScheduleError(
            f"config={shown(config)} must be a dict, made by to_config or the config of a "
            "diffusers scheduler"
        )
    if "schedule" in config:
        return _own(config)
    config = checked(filled(config))
    name = str(config.get("origin") or config.get("_class_name"))
    if (
        name in FLOW_CLASSES
        or config.get("use_flow_sigmas")
        or config.get("prediction_type") == "flow_prediction"
    ):
        return Flow(_first(config, "flow_shift", "shift", 1.0))
    if name in EDM_CLASSES:
        return EDM(_first(config, "sigma_min", 0.002), _first(config, "sigma_max", 80.0))
    keys = ("beta_schedule", "trained_betas", "beta_start", "beta_end")
    if not any(config.get(k) is not None for k in keys):
        raise ScheduleError(
            f"no schedule in this config: neither 'schedule' nor any of {', '.join(keys)}; "
            f"it has {sorted(config)}"
        )
    return DiscreteVP.from_betas(
        _betas(config), rescale_zero_snr=bool(config.get("rescale_betas_zero_snr", False))
    )


def _first(config: Mapping[str, Any], *keys: Any) -> Any:
    """The value of the first of ``keys`` that is given, 0 included; the last of ``keys`` is the
    default."""
    return next((config[key] for key in keys[:-1] if config.get(key) is not None), keys[-1])


def _own(config: Mapping[str, Any]) -> Schedule:
    """The schedule of ``to_config``'s form."""
    name = config["schedule"]
    if not isinstance(name, str) or name not in SCHEDULES:
        raise ScheduleError(unknown("schedule", name, SCHEDULES))
    kind = SCHEDULES[name]
    allowed = [f.name for f in dataclasses.fields(kind)]
    values = {k: _decode(v) for k, v in config.items() if k != "schedule"}
    for key in values:
        if key not in allowed:
            raise ScheduleError(unknown(f"parameter of {name}", key, allowed))
    try:
        schedule: Schedule = kind(**values)
    except (TypeError, ValueError) as error:
        raise ScheduleError(f"{name} config: {error}") from error
    return schedule


def _betas(config: Mapping[str, Any]) -> Any:
    """The betas of a diffusers config."""
    if config.get("trained_betas") is not None:
        return np.asarray(config["trained_betas"], dtype=np.float64)
    count, name = (
        _first(config, "num_train_timesteps", 1000),
        _first(config, "beta_schedule", "linear"),
    )
    low, high = _first(config, "beta_start", 1e-4), _first(config, "beta_end", 0.02)
    return make_betas(name, count, low, high)


def make_betas(name: str, count: int = 1000, low: float = 1e-4, high: float = 0.02) -> Any:
    """``count`` betas as a float64 array: linear (arXiv 2006.11239), scaled_linear (linear in the
    root, arXiv 2112.10752), squaredcos_cap_v2 (arXiv 2102.09672, eq. 17, at most 0.999; ignores
    ``low`` and ``high``), sigmoid (over [-6, 6])."""
    if name == "linear":
        return np.linspace(low, high, count)
    if name == "scaled_linear":
        return np.linspace(math.sqrt(low), math.sqrt(high), count) ** 2
    if name == "sigmoid":
        return low + (high - low) / (1.0 + np.exp(-np.linspace(-6.0, 6.0, count)))
    if name == "squaredcos_cap_v2":
        bar = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * (0.5 * math.pi)) ** 2
        return np.minimum(1.0 - bar[1:] / bar[:-1], 0.999)
    raise ScheduleError(unknown("beta_schedule", name, BETA_SCHEDULES))


def _encode(value: Any) -> Any:
    """``value`` in strict JSON; a schedule inside another becomes a dict."""
    if isinstance(value, Schedule):
        return to_config(value)
    if isinstance(value, tuple):
        return [_encode(v) for v in value]
    return repr(value) if isinstance(value, float) and math.isinf(value) else value


def _decode(value: Any) -> Any:
    """The inverse of ``_encode``."""
    if isinstance(value, Mapping):
        return from_config(value)
    if isinstance(value, list | tuple):
        return tuple(_decode(v) for v in value)
    return float(value) if isinstance(value, str) and value in ("inf", "-inf") else value

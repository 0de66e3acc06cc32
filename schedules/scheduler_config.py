"""A diffusers scheduler config -> what it means: the path, the prediction, the grid's rule, and how predictions are clipped.

Read here once for model folders (``models.pretrained``) and for the diffusers scheduler (``interop``). A config is read with the defaults
of the class it was written by (``origin``, else ``_class_name``), so that a key left out means what it means there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..checks import unknown
from .base import Schedule
from .config import from_config
from .discrete import DiscreteVP
from .errors import ConfigError
from .flow import Flow, Trig
from .noise_path import NoisePath
from .scheduler_classes import STYLES, class_defaults, filled

PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v", "flow_prediction": "velocity"}
SPECIAL = {"use_karras_sigmas": "karras", "use_exponential_sigmas": "exponential", "use_beta_sigmas": "beta", "use_lu_lambdas": "lu"}


@dataclass(frozen=True)
class Settings:
    """What a config says, checked; hashable, so that what is compiled from it is kept.

    Attributes:
        origin, style: the diffusers class whose conventions hold, and its kind of grid.
        schedule: the path in the coordinates of the network's input.
        prediction: kind of the network's output.
        train_steps: length of the training table; a flow's time is ``train_steps`` times its sigma.
        spacing, offset, special, first: ``timestep_spacing``, ``steps_offset``, the special levels, and the first table entry in use.
        end: ``zero`` or ``sigma_min``.
        low, high, rho: bounds of the noise levels where given, and the Karras exponent.
        shift, dynamic, terminal: of flows; ``dynamic`` is the kind of ``mu``, empty for none.
        log_linear: levels geometric between the ends of the table (``interpolation_type``).
        skipping: length of the distilled table.
        clip: bound of x0, or (ratio, bound) of dynamic thresholding; None for neither.
        learned: the network predicts a variance too, in the second half of its channels.
        grid: a named grid of fewstep in place of all this.
        round_times: the network is a look-up table: feed it the nearest entry.
    """

    origin: str
    style: str
    schedule: Schedule
    prediction: str
    train_steps: int
    spacing: str
    offset: int
    special: str
    first: int
    end: str
    low: float | None
    high: float | None
    rho: float
    shift: float
    dynamic: str
    terminal: float
    log_linear: bool
    skipping: int
    clip: float | tuple[float, float] | None
    learned: bool
    grid: str | None
    round_times: bool

    @property
    def scale(self) -> float:
        """What the network is told per unit of the schedule's time."""
        return float(self.train_steps) if isinstance(self.schedule, Flow) else 1.0

    def label(self, t: float) -> float:
        """The time that the network is told for the schedule's time ``t``."""
        return float(round(self.scale * t)) if self.round_times else self.scale * t


def read(config: Mapping[str, Any]) -> Settings:
    """The meaning of a scheduler config. ConfigError names key, value and what to do."""
    config = filled(config)
    origin = str(config.get("origin") or config.get("_class_name"))
    if origin not in STYLES:
        raise ConfigError(unknown("scheduler class", origin, STYLES))
    if config.get("invert_sigmas"):
        raise ConfigError("invert_sigmas=True is not supported: the network's time runs from noise to data, which no sampler here is told")
    style = STYLES[origin]
    if config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        style = "flow" if style == "flow" else "flow_levels"
    special = [word for key, word in SPECIAL.items() if config.get(key)]
    if len(special) > 1:
        raise ConfigError(f"{' and '.join(special)} levels were both asked for: give one of them")
    schedule = _schedule(config, style)
    return Settings(
        origin=origin,
        style="edm" if isinstance(schedule, NoisePath) and style != "sigmas" else style,
        schedule=schedule,
        prediction=_prediction(config, style),
        train_steps=int(config.get("num_train_timesteps") or 1000),
        spacing=_spacing(config, origin),
        offset=int(config.get("steps_offset") or 0),
        special=special[0] if special else (_edm_special(config) if style == "edm" else ""),
        first=_first(config, schedule),
        end=_end(config, origin, style),
        low=config.get("sigma_min"),
        high=config.get("sigma_max"),
        rho=float(config.get("rho") or 7.0),
        shift=float((config.get("shift") if style == "flow" else config.get("flow_shift")) or 1.0),
        dynamic=str(config.get("time_shift_type") or "exponential") if config.get("use_dynamic_shifting") else "",
        terminal=float(config.get("shift_terminal") or 0.0),
        log_linear=config.get("interpolation_type") == "log_linear",
        skipping=int(config.get("original_inference_steps") or 0),
        clip=_clip(config),
        learned=str(config.get("variance_type") or "").startswith("learned"),
        grid=config.get("grid"),
        round_times=bool(config.get("round_timesteps")),
    )


def shift_of(config: Mapping[str, Any], settings: Settings, tokens: int | None = None) -> float:
    """How far a flow's times are moved toward noise, ``t -> s t / (1 + (s - 1) t)``: the ``shift`` of ``Flow``.

    With ``use_dynamic_shifting`` s is e^mu (mu itself where ``time_shift_type`` is linear), mu linear in the number of the network's
    ``tokens`` between ``base_image_seq_len`` and ``max_image_seq_len`` (arXiv 2403.03206, section 5.3.2), which is taken where None.
    """
    if not settings.dynamic:
        return settings.shift
    config = {**class_defaults("FlowMatchEulerDiscreteScheduler"), **config}
    base, most = int(config["base_image_seq_len"]), int(config["max_image_seq_len"])
    shift = Flow.dynamic(most if tokens is None else tokens, float(config["base_shift"]), float(config["max_shift"]), base, most).shift
    return shift if settings.dynamic == "exponential" else math.log(shift)


def _schedule(config: Mapping[str, Any], style: str) -> Schedule:
    if style in ("flow", "flow_levels"):
        return Flow()
    if style == "edm":
        return NoisePath(float(config["sigma_data"]))
    if style == "trig":
        return Trig()
    if config.get("timestep_type") == "continuous" and config.get("prediction_type") == "v_prediction":
        return NoisePath(1.0)
    try:
        return from_config({k: v for k, v in config.items() if k != "prediction_type"})
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _prediction(config: Mapping[str, Any], style: str) -> str:
    if style in ("flow", "trig"):
        return "velocity" if style == "flow" else "v"
    name = config.get("prediction_type") or "epsilon"
    if name not in PREDICTIONS:
        raise ConfigError(unknown("prediction_type", str(name), PREDICTIONS))
    return PREDICTIONS[name]


def _spacing(config: Mapping[str, Any], origin: str) -> str:
    name = config.get("timestep_spacing") or ("linspace" if origin == "DPMSolverSinglestepScheduler" else "leading")
    if name not in ("linspace", "leading", "trailing"):
        raise ConfigError(unknown("timestep_spacing", str(name), ("linspace", "leading", "trailing")))
    return str(name)


def _edm_special(config: Mapping[str, Any]) -> str:
    name = str(config.get("sigma_schedule") or "karras")
    if name not in ("karras", "exponential"):
        raise ConfigError(unknown("sigma_schedule", name, ("karras", "exponential")))
    return name


def _first(config: Mapping[str, Any], schedule: Schedule) -> int:
    """The last index of the table that is not below ``lambda_min_clipped``."""
    if not isinstance(schedule, DiscreteVP):
        return 0
    least, top = float(config.get("lambda_min_clipped") or -math.inf), int(schedule.t_max)
    while top > 0 and schedule.lam(float(top)) < least:
        top -= 1
    return top


def _end(config: Mapping[str, Any], origin: str, style: str) -> str:
    """``final_sigmas_type``, or what the class does that has no such key."""
    end = config.get("final_sigmas_type")
    if end is None:
        if origin in ("DEISMultistepScheduler", "SASolverScheduler"):
            end = "zero" if style == "flow_levels" else "sigma_min"
        else:
            first = origin == "TCDScheduler" or not config.get("set_alpha_to_one", True)  # the end is the table's first entry
            end = "sigma_min" if first else "zero"
    if end not in ("zero", "sigma_min"):
        raise ConfigError(unknown("final_sigmas_type", str(end), ("zero", "sigma_min")))
    if end == "sigma_min" and style in ("flow", "flow_levels"):
        raise ConfigError('final_sigmas_type="sigma_min" says nothing on a flow, whose last time is 0: give "zero"')
    return str(end)


def _clip(config: Mapping[str, Any]) -> float | tuple[float, float] | None:
    if config.get("thresholding"):
        return float(config["dynamic_thresholding_ratio"]), float(config["sample_max_value"])
    return float(config.get("clip_sample_range") or 1.0) if config.get("clip_sample") else None

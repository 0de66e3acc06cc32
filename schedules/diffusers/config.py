"""Reader of diffusers scheduler configs: the path, the kind of prediction, the grid's rule, and how
predictions are clipped.

Used by model folders (``models.diffusers``) and by the diffusers scheduler (``interop.diffusers``).
A key left out has the default of the class that wrote the config (``origin``, else
``_class_name``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...checks import ConfigError, unknown
from ..base import Schedule
from ..config import from_config
from ..discrete import DiscreteVP
from ..flow import Flow, Trig
from ..grids.auto import Kind
from ..grids.construction import Params
from ..noise_path import NoisePath
from .classes import SAME, STYLES, class_defaults, filled
from .named_grids import named_grid, renewed
from .values import checked

PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v", "flow_prediction": "velocity"}
SPECIAL = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_beta_sigmas": "beta",
    "use_lu_lambdas": "lu",
}
#: special levels begin here where the table's largest level is infinite (zero terminal SNR): 2^-24
#: as alpha^2, as in diffusers
LARGEST = 4096.0


@dataclass(frozen=True)
class Settings:
    """The checked meaning of a config; hashable, so that plans made from it can be cached.

    Attributes:
        origin, style: the diffusers class whose conventions hold, and its kind of grid.
        schedule: the path in the coordinates of the network's input.
        prediction: kind of the network's output.
        train_steps: length of the training table; a flow's time is ``train_steps`` times its sigma.
        spacing, offset, special, first: ``timestep_spacing``, ``steps_offset``, the special levels,
            and the first table entry in use.
        end: ``zero`` or ``sigma_min``.
        low, high, rho: bounds of the noise levels where given, and the Karras exponent.
        shift, dynamic, terminal: of flows; ``dynamic`` is the kind of ``mu``, empty for none.
        log_linear: levels geometric between the ends of the table (``interpolation_type``).
        skipping: length of the distilled table.
        clip: bound of x0, or (ratio, bound) of dynamic thresholding; None for neither.
        learned: the network predicts a variance too, in the second half of its channels.
        grid, grid_options: a named grid of fewstep instead of the rules above, and its options.
        kind: kind of the sampler, on which grid "auto" depends.
        reason: why an automatic choice took its sampler, else empty.
        round_times: the network is a look-up table: feed it the nearest entry.
        laid_shift: the shift that a flow's lowest level was laid out with, where ``shift`` was
            changed since.
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
    laid_shift: float | None = None
    grid_options: Params = ()
    kind: Kind = "multistep"
    reason: str = ""

    @property
    def scale(self) -> float:
        """The network's time per unit of the schedule's time."""
        return float(self.train_steps) if isinstance(self.schedule, Flow) else 1.0

    @property
    def levels(self) -> tuple[float, float]:
        """``sigma_min`` and ``sigma_max`` of a path that has no table."""
        return 0.002 if self.low is None else self.low, 80.0 if self.high is None else self.high

    def label(self, t: float) -> float:
        """The network's time for the schedule's time ``t``.

        On a flow, UniPC's first time is below ``train_steps`` by one rounding of float32: its own
        class stays below it too, and a pipeline with two networks (``boundary_ratio=1``) takes the
        first of them from there on.
        """
        if self.round_times:
            return float(round(self.scale * t))
        top = (
            t == 1.0
            and self.origin == "UniPCMultistepScheduler"
            and isinstance(self.schedule, Flow)
        )
        return self.scale * t * (1.0 - 2.0**-24) if top else self.scale * t


def read(config: Mapping[str, Any]) -> Settings:
    """Read a scheduler config. Raises ConfigError that names key, value and remedy."""
    config = renewed(config)
    origin = _origin(config)
    config = checked(filled(config))
    style, special = _style(config, origin), _special(config)
    schedule = _schedule(config, style)
    low, high = _levels(config, style, special)
    grid, grid_options = named_grid(config, schedule)
    return Settings(
        origin=origin,
        style="edm" if isinstance(schedule, NoisePath) and style != "sigmas" else style,
        schedule=schedule,
        prediction=_prediction(config, style),
        train_steps=config["num_train_timesteps"],
        spacing=config.get("timestep_spacing")
        or ("linspace" if origin == "DPMSolverSinglestepScheduler" else "leading"),
        offset=_given(config, "steps_offset", 0),
        special=special[0]
        if special
        else (_given(config, "sigma_schedule", "karras") if style == "edm" else ""),
        first=_first(config, schedule),
        end=_end(config, origin, style),
        low=low,
        high=high,
        rho=_given(config, "rho", 7.0),
        shift=_given(config, "shift" if style == "flow" else "flow_shift", 1.0),
        dynamic=_given(config, "time_shift_type", "exponential")
        if config.get("use_dynamic_shifting")
        else "",
        terminal=_given(config, "shift_terminal", 0.0),
        log_linear=config.get("interpolation_type") == "log_linear",
        skipping=_given(config, "original_inference_steps", 0),
        clip=_clip(config),
        learned=str(config.get("variance_type") or "").startswith("learned"),
        grid=grid,
        round_times=bool(config.get("round_timesteps")),
        grid_options=grid_options,
    )


def _origin(config: Mapping[str, Any]) -> str:
    """The diffusers class whose conventions hold. Raises ConfigError for an unknown class."""
    origin = str(config.get("origin") or config.get("_class_name"))
    origin = SAME.get(origin, origin)
    if origin not in STYLES:
        raise ConfigError(unknown("scheduler class", origin, STYLES))
    return origin


def _style(config: Mapping[str, Any], origin: str) -> str:
    """The kind of grid. Raises ConfigError for times that run from data to noise."""
    if config.get("invert_sigmas"):
        raise ConfigError(
            "invert_sigmas=True is not supported: the network's time would run from noise to data"
        )
    style = STYLES[origin]
    if config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        return "flow" if style == "flow" else "flow_levels"
    return style


def _special(config: Mapping[str, Any]) -> list[str]:
    """The special levels (Karras and so on), at most one. Raises ConfigError for more."""
    special = [word for key, word in SPECIAL.items() if config.get(key)]
    if len(special) > 1:
        raise ConfigError(f"{' and '.join(special)} levels were both asked for: give one of them")
    return special


def _given(config: Mapping[str, Any], key: str, default: Any) -> Any:
    """The value of ``key``, 0 included; ``default`` where it is None or absent."""
    value = config.get(key)
    return default if value is None else value


def shift_of(config: Mapping[str, Any], settings: Settings, tokens: int | None = None) -> float:
    """How far a flow's times are moved toward noise, ``t -> s t / (1 + (s - 1) t)``: the ``shift``
    of ``Flow``.

    With ``use_dynamic_shifting`` s is e^mu (mu itself where ``time_shift_type`` is linear), mu
    linear in the number of the network's ``tokens`` between ``base_image_seq_len`` and
    ``max_image_seq_len`` (arXiv 2403.03206, section 5.3.2); None: ``max_image_seq_len``.
    """
    if not settings.dynamic:
        return settings.shift
    config = checked({**class_defaults("FlowMatchEulerDiscreteScheduler"), **config})
    base, most = int(config["base_image_seq_len"]), int(config["max_image_seq_len"])
    shift = Flow.dynamic(
        most if tokens is None else tokens,
        float(config["base_shift"]),
        float(config["max_shift"]),
        base,
        most,
    ).shift
    return shift if settings.dynamic == "exponential" else math.log(shift)


def _schedule(config: Mapping[str, Any], style: str) -> Schedule:
    if style in ("flow", "flow_levels"):
        return Flow()
    if style == "edm":
        return NoisePath(config["sigma_data"])
    if style == "trig":
        if config.get("trained_betas") is not None:
            raise ConfigError(
                "trained_betas of IPNDMScheduler is not supported: its path is "
                "trigonometric; leave it out"
            )
        return Trig()
    if (
        config.get("timestep_type") == "continuous"
        and config.get("prediction_type") == "v_prediction"
    ):
        return NoisePath(1.0)
    try:
        return from_config({k: v for k, v in config.items() if k != "prediction_type"})
    except ValueError as error:
        keys = (
            ("trained_betas",)
            if config.get("trained_betas") is not None
            else ("beta_schedule", "beta_start", "beta_end")
        )
        said = ", ".join(
            f"{key}={config.get(key)!r}" if key != "trained_betas" else key for key in keys
        )
        raise ConfigError(f"the table of betas of {said}: {error}") from None


def _levels(
    config: Mapping[str, Any], style: str, special: list[str]
) -> tuple[float | None, float | None]:
    """``sigma_min`` and ``sigma_max`` where they are given, on a flow its own sigmas.

    Karras levels of UniPC on a flow are sigma / alpha, between the ends of the table of betas
    unless others are given, as in diffusers.
    """
    low, high = config.get("sigma_min"), config.get("sigma_max")
    if style not in ("flow", "flow_levels") and config.get("shift_terminal"):
        raise ConfigError(
            f"shift_terminal={config['shift_terminal']!r} applies to flows only: give "
            "use_flow_sigmas=True, or leave it out"
        )
    if style not in ("flow", "flow_levels") or not special:
        return low, high
    if (
        style == "flow_levels"
        and special == ["karras"]
        and config.get("origin", config.get("_class_name")) == "UniPCMultistepScheduler"
    ):
        table = _schedule(
            {**config, "use_flow_sigmas": False, "prediction_type": "epsilon"}, "levels"
        )
        top = table.rho(table.t_max)
        return _given(config, "sigma_min", table.rho(0.0)), _given(
            config, "sigma_max", top if math.isfinite(top) else LARGEST
        )
    for key, value in (("sigma_min", low), ("sigma_max", high)):
        if value is not None and value > 1.0:
            raise ConfigError(f"{key}={value!r}: a flow's sigma is at most 1")
    return low, high


def _prediction(config: Mapping[str, Any], style: str) -> str:
    if style in ("flow", "trig"):
        return "velocity" if style == "flow" else "v"
    return PREDICTIONS[_given(config, "prediction_type", "epsilon")]


def _first(config: Mapping[str, Any], schedule: Schedule) -> int:
    """The entry that a full run begins with: ``num_train_timesteps`` less one, less the entries
    below ``lambda_min_clipped``.

    ``trained_betas`` may hold another number of entries, which changes no time: as in diffusers
    those follow ``num_train_timesteps``.
    """
    if not isinstance(schedule, DiscreteVP):
        return 0
    least, last = _given(config, "lambda_min_clipped", -math.inf), int(schedule.t_max)
    if schedule.lam(0.0) < least:
        raise ConfigError(
            f"lambda_min_clipped={least!r}: the table's largest lambda is "
            f"{schedule.lam(0.0):.6g}, so no entry is left"
        )
    top = last
    while top > 0 and schedule.lam(float(top)) < least:
        top -= 1
    return max(0, int(config["num_train_timesteps"]) - 1 - (last - top))


def _end(config: Mapping[str, Any], origin: str, style: str) -> str:
    """``final_sigmas_type``, or the end used by a class without that key."""
    end = config.get("final_sigmas_type")
    if end is None:
        if origin in ("DEISMultistepScheduler", "SASolverScheduler"):
            end = "zero" if style == "flow_levels" else "sigma_min"
        else:
            # the end is the table's first entry; LCM's last step gives its x0 whatever the key says
            first = origin == "TCDScheduler" or (
                origin != "LCMScheduler" and not config.get("set_alpha_to_one", True)
            )
            end = "sigma_min" if first else "zero"
    if end == "sigma_min" and style in ("flow", "flow_levels"):
        raise ConfigError(
            'final_sigmas_type="sigma_min" does not apply to a flow, whose last time is 0: '
            'give "zero"'
        )
    return str(end)


def _clip(config: Mapping[str, Any]) -> float | tuple[float, float] | None:
    # has the keys, and clips nothing
    if config.get("origin", config.get("_class_name")) == "TCDScheduler":
        return None
    if config.get("thresholding"):
        return _given(config, "dynamic_thresholding_ratio", 0.995), _given(
            config, "sample_max_value", 1.0
        )
    return _given(config, "clip_sample_range", 1.0) if config.get("clip_sample") else None

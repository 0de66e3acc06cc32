"""The values of a diffusers scheduler config, checked key by key.

A key's value must be of its kind: a flag, a number or an integer in a range, or one of a list of
words. ``None`` is the default of the class; for a flag it is False, as in diffusers.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from ... import checks
from ...checks import ConfigError
from .classes import class_defaults

FLAGS = (
    *(
        "use_karras_sigmas",
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "use_lu_lambdas",
        "use_flow_sigmas",
        "use_dynamic_shifting",
    ),
    *(
        "rescale_betas_zero_snr",
        "clip_sample",
        "thresholding",
        "set_alpha_to_one",
        "skip_prk_steps",
        "predict_x0",
        "lower_order_final",
    ),
    *("euler_at_final", "invert_sigmas", "stochastic_sampling", "round_timesteps"),
)
CHOICES: dict[str, tuple[str, ...]] = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"),
    "prediction_type": ("epsilon", "sample", "v_prediction", "flow_prediction"),
    "timestep_spacing": ("linspace", "leading", "trailing"),
    "timestep_type": ("discrete", "continuous"),
    "final_sigmas_type": ("zero", "sigma_min"),
    "interpolation_type": ("linear", "log_linear"),
    "time_shift_type": ("exponential", "linear"),
    "sigma_schedule": ("karras", "exponential"),
    "algorithm_type": (
        *("dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"),  # DPM-Solver
        *("deis", "data_prediction", "noise_prediction"),  # DEIS, SA-Solver
    ),
    "solver_type": ("midpoint", "heun", "bh1", "bh2", "logrho"),
    "variance_type": (
        "fixed_small",
        "fixed_small_log",
        "fixed_large",
        "fixed_large_log",
        "learned",
        "learned_range",
    ),
}
#: key -> (least, largest)
NUMBERS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("beta_start", "beta_end"), (1e-12, 1.0)),
    **dict.fromkeys(("sigma_min", "sigma_max"), (1e-9, 1e9)),
    **dict.fromkeys(("shift", "flow_shift"), (1e-3, 1e4)),
    **dict.fromkeys(("base_shift", "max_shift"), (-20.0, 20.0)),
    "sigma_data": (1e-6, 1e6),
    "rho": (0.1, 1e3),
    "shift_terminal": (0.0, 0.999),
    "clip_sample_range": (1e-6, 1e9),
    "dynamic_thresholding_ratio": (0.0, 1.0),
    "sample_max_value": (1e-6, 1e9),
    "timestep_scaling": (1e-3, 1e6),
}
INTEGERS: dict[str, tuple[int, int]] = {
    "num_train_timesteps": (2, 100_000),
    "steps_offset": (0, 100_000),
    "original_inference_steps": (1, 100_000),
    **dict.fromkeys(("base_image_seq_len", "max_image_seq_len"), (1, 2**31)),
    **dict.fromkeys(("solver_order", "predictor_order"), (1, 9)),
    "corrector_order": (0, 9),
    "noise_seed": (-(2**63), 2**64 - 1),
}


def checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with the values of the keys above as plain Python values. Raises ConfigError that
    names the key, its value and what is allowed."""
    defaults = class_defaults(str(config.get("origin") or config.get("_class_name")))
    made = {k: _value(k, v, defaults) for k, v in config.items()}
    low, high = made.get("sigma_min"), made.get("sigma_max")
    if low is not None and high is not None and low >= high:
        raise ConfigError(
            f"sigma_min={low!r} and sigma_max={high!r}: the first must be below the second"
        )
    if made.get("max_image_seq_len") is not None and made.get("max_image_seq_len") == made.get(
        "base_image_seq_len"
    ):
        raise ConfigError(
            f"base_image_seq_len={made['base_image_seq_len']} and max_image_seq_len: they "
            "must differ"
        )
    total, offset, table = (
        made.get("num_train_timesteps"),
        made.get("steps_offset"),
        made.get("original_inference_steps"),
    )
    for key, value in (("steps_offset", offset), ("original_inference_steps", table)):
        if total is not None and value is not None and value > total:
            raise ConfigError(f"{key}={value} must be at most num_train_timesteps={total}")
    return made


def _value(key: str, value: Any, defaults: Mapping[str, Any]) -> Any:
    """The value of one key, checked; values of unknown keys are returned unchanged."""
    if key in FLAGS:
        return _flag(key, value)
    if value is None:
        return defaults.get(key)
    if key in CHOICES and not (key == "beta_schedule" and value == "trained"):
        if not isinstance(value, str) or value not in CHOICES[key]:
            raise ConfigError(checks.unknown(key, value, CHOICES[key]))
        return value
    if key in NUMBERS:
        return _number(key, value, *NUMBERS[key])
    if key in INTEGERS:
        return _integer(key, value, *INTEGERS[key])
    other = {
        "lambda_min_clipped": _level,
        "trained_betas": _betas,
        "disable_corrector": _places,
    }.get(key)
    return value if other is None else other(key, value)


def _flag(key: str, value: Any) -> bool:
    found = checks.plain(value)
    if found is not None and not (isinstance(found, (bool, int)) and found in (0, 1)):
        raise ConfigError(f"{key}={value!r} must be True or False")
    return bool(found)


def _number(key: str, value: Any, low: float, high: float) -> float:
    try:
        return float(checks.number(key, value, low, high))
    except checks.ArgumentError as error:
        raise ConfigError(str(error)) from None


def _integer(key: str, value: Any, low: int, high: int) -> int:
    try:
        return checks.integer(key, value, low, high)
    except checks.ArgumentError as error:
        raise ConfigError(str(error)) from None


def _level(key: str, value: Any) -> float:
    """A bound of lam; -inf for no bound."""
    found: Any = checks.plain(value)
    real = isinstance(found, numbers.Real) and not isinstance(found, bool)
    if not real or not (found == -math.inf or -1e9 <= found <= 1e9):
        raise ConfigError(f"{key}={value!r} must be a number, -inf for no bound")
    return float(found)


def _betas(key: str, value: Any) -> Any:
    """A table of betas: at least two, each in (0, 1]."""
    try:
        table = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        table = np.zeros(0)
    if table.ndim != 1 or len(table) < 2 or not bool(np.all((table > 0.0) & (table <= 1.0))):
        raise ConfigError(
            f"{key}={_short(value)} must be a list of at least two numbers > 0 and <= 1"
        )
    return value


def _places(key: str, value: Any) -> list[int]:
    """A list of step numbers, checked."""
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise ConfigError(f"{key}={_short(value)} must be a list of step numbers")
    return [_integer(key, k, 0, 100_000) for k in value]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."

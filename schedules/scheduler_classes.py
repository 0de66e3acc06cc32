"""diffusers' scheduler classes as data: how the grid of each is laid out, and what a key means that its config leaves out.

Files of older versions leave keys out, and a key left out means what it means in the class that wrote the file. The table holds the keys
that decide path, grid and prediction; ``tests/test_scheduler_config.py`` compares it with the signatures of the installed classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: class -> how its grid is laid out (``scheduler_grids``)
STYLES = {
    **dict.fromkeys(("DDIMScheduler", "DDPMScheduler", "PNDMScheduler"), "table"),
    **dict.fromkeys(("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"), "levels"),
    **dict.fromkeys(("DEISMultistepScheduler", "UniPCMultistepScheduler", "SASolverScheduler"), "levels"),
    **dict.fromkeys(("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler"), "sigmas"),
    **dict.fromkeys(("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "LMSDiscreteScheduler"), "sigmas"),
    **dict.fromkeys(("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"), "edm"),
    **dict.fromkeys(("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"), "flow"),
    **dict.fromkeys(("LCMScheduler", "TCDScheduler"), "distilled"),
    "IPNDMScheduler": "trig",
}
#: kinds of grid without a table of betas
PATHS = ("edm", "flow", "trig")

_TABLE: dict[str, Any] = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "prediction_type": "epsilon"}
_LATENT: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012}
_CLIPPED: dict[str, Any] = {"clip_sample": True, "clip_sample_range": 1.0}
_THRESHOLD: dict[str, Any] = {"thresholding": False, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0}
_LEADING: dict[str, Any] = {"timestep_spacing": "leading"}
_ZERO: dict[str, Any] = {"final_sigmas_type": "zero"}
_SPACED: dict[str, Any] = {"timestep_spacing": "linspace"}
_UNCUT: dict[str, Any] = {"lambda_min_clipped": -math.inf}
_DYNAMIC: dict[str, Any] = {"use_dynamic_shifting": False, "time_shift_type": "exponential"}
_LEVELS: dict[str, Any] = {**_SPACED, **_THRESHOLD, "flow_shift": 1.0}
_EDM: dict[str, Any] = {
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "sigma_data": 0.5,
    "sigma_schedule": "karras",
    "rho": 7.0,
    "prediction_type": "epsilon",
}
_TOKENS: dict[str, Any] = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096}
_DISTILLED: dict[str, Any] = {**_LATENT, "beta_schedule": "scaled_linear", "original_inference_steps": 50, "timestep_scaling": 10.0}

#: class -> the defaults of its own, beside those of its style
_OWN: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {**_CLIPPED, **_THRESHOLD, **_LEADING, "set_alpha_to_one": True},
    "DDPMScheduler": {**_CLIPPED, **_THRESHOLD, **_LEADING, "variance_type": "fixed_small"},
    "PNDMScheduler": {**_LEADING, "set_alpha_to_one": False},
    "DPMSolverMultistepScheduler": {**_LEVELS, **_ZERO, **_UNCUT, **_DYNAMIC},
    "DPMSolverSinglestepScheduler": {**_THRESHOLD, **_ZERO, **_UNCUT, "flow_shift": 1.0, **_DYNAMIC},
    "DEISMultistepScheduler": {**_LEVELS, **_DYNAMIC},
    "UniPCMultistepScheduler": {**_LEVELS, **_ZERO, **_DYNAMIC},
    "SASolverScheduler": {**_LEVELS, **_UNCUT},
    "EulerDiscreteScheduler": {**_SPACED, **_ZERO, "interpolation_type": "linear", "timestep_type": "discrete"},
    "EulerAncestralDiscreteScheduler": _SPACED,
    "HeunDiscreteScheduler": {**_LATENT, **_SPACED, "clip_sample": False, "clip_sample_range": 1.0},
    "KDPM2DiscreteScheduler": {**_LATENT, **_SPACED},
    "KDPM2AncestralDiscreteScheduler": {**_LATENT, **_SPACED},
    "LMSDiscreteScheduler": _SPACED,
    "EDMEulerScheduler": {**_EDM, **_ZERO},
    "EDMDPMSolverMultistepScheduler": {**_EDM, **_ZERO, **_THRESHOLD},
    "FlowMatchEulerDiscreteScheduler": {"shift": 1.0, **_DYNAMIC, **_TOKENS},
    "FlowMatchHeunDiscreteScheduler": {"shift": 1.0},
    "LCMScheduler": {**_DISTILLED, **_THRESHOLD, **_LEADING, "clip_sample": False, "clip_sample_range": 1.0, "set_alpha_to_one": True},
    "TCDScheduler": {**_DISTILLED, **_THRESHOLD, **_LEADING, "clip_sample": False, "clip_sample_range": 1.0, "set_alpha_to_one": True},
    "IPNDMScheduler": {},
}


def class_defaults(name: str) -> dict[str, Any]:
    """What the keys mean that a config of the class ``name`` leaves out; empty for a class that is not known."""
    if name not in STYLES:
        return {}
    return {"num_train_timesteps": 1000, **({} if STYLES[name] in PATHS else _TABLE), **_OWN[name]}


def filled(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with the defaults of the class named by ``origin``, else by ``_class_name``, where that is known."""
    return {**class_defaults(str(config.get("origin") or config.get("_class_name"))), **config}

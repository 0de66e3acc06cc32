"""diffusers' scheduler classes as data: how the grid of each is laid out, and the keys of its
config with their defaults.

Files of older versions leave keys out; such a key has the default of the class that wrote the
file. The table is the union over diffusers 0.31 to 0.42, in which keys were added and no
default was changed; a test compares it with ``tests/golden/schedulers.json``, which holds the
signatures of those versions, and with the installed classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: class -> how its grid is laid out (``scheduler_grids``)
STYLES = {
    **dict.fromkeys(("DDIMScheduler", "DDPMScheduler", "PNDMScheduler"), "table"),
    **dict.fromkeys(("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"), "levels"),
    **dict.fromkeys(
        ("DEISMultistepScheduler", "UniPCMultistepScheduler", "SASolverScheduler"), "levels"
    ),
    **dict.fromkeys(
        ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler"),
        "sigmas",
    ),
    **dict.fromkeys(
        ("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "LMSDiscreteScheduler"),
        "sigmas",
    ),
    **dict.fromkeys(("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"), "edm"),
    **dict.fromkeys(("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"), "flow"),
    **dict.fromkeys(("LCMScheduler", "TCDScheduler"), "distilled"),
    "IPNDMScheduler": "trig",
}
#: classes that step as another does, with the same keys: their other methods serve batches of times
SAME = {"DDIMParallelScheduler": "DDIMScheduler", "DDPMParallelScheduler": "DDPMScheduler"}
#: class that goes from data to noise -> the class from noise to data whose keys and defaults it has
INVERSE = {
    "DDIMInverseScheduler": "DDIMScheduler",
    "DPMSolverMultistepInverseScheduler": "DPMSolverMultistepScheduler",
}
#: a class without a counterpart whose keys are those of one that has: the keys alone do not tell
#: them apart
NOT_SERVED = {"FlowMapEulerDiscreteScheduler": "FlowMatchHeunDiscreteScheduler"}

_ORDERED: dict[str, Any] = {"solver_order": 2, "lower_order_final": True}
_TABLE: dict[str, Any] = {
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "timestep_spacing": "linspace",
    "steps_offset": 0,
}
_LATENT: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012}
_LEADING: dict[str, Any] = {"timestep_spacing": "leading"}
_THRESHOLD: dict[str, Any] = {
    "thresholding": False,
    "dynamic_thresholding_ratio": 0.995,
    "sample_max_value": 1.0,
}
_CLIPPED: dict[str, Any] = {"clip_sample": True, "clip_sample_range": 1.0}
_SNR: dict[str, Any] = {"rescale_betas_zero_snr": False}
_ZERO: dict[str, Any] = {"final_sigmas_type": "zero"}
_SPECIAL: dict[str, Any] = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
}
_FLOW: dict[str, Any] = {"use_flow_sigmas": False, "flow_shift": 1.0}
_UNCUT: dict[str, Any] = {"lambda_min_clipped": -math.inf, "variance_type": None}
_DYNAMIC: dict[str, Any] = {"use_dynamic_shifting": False, "time_shift_type": "exponential"}
_SOLVER: dict[str, Any] = {**_TABLE, **_ORDERED, **_THRESHOLD, **_SPECIAL, **_FLOW}
_DPM: dict[str, Any] = {
    **_SOLVER,
    "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint",
    **_ZERO,
    **_UNCUT,
    "use_lu_lambdas": False,
}
_EDM: dict[str, Any] = {
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "sigma_data": 0.5,
    "sigma_schedule": "karras",
    "rho": 7.0,
    "prediction_type": "epsilon",
    **_ZERO,
}
_TOKENS: dict[str, Any] = {
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}
_DISTILLED: dict[str, Any] = {
    **_TABLE,
    **_LATENT,
    **_CLIPPED,
    **_THRESHOLD,
    **_LEADING,
    **_SNR,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "original_inference_steps": 50,
    "timestep_scaling": 10.0,
    "set_alpha_to_one": True,
}

#: class -> the keys of its config and their defaults, without ``num_train_timesteps``, which all
#: have
_KEYS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {
        **_TABLE,
        **_CLIPPED,
        **_THRESHOLD,
        **_LEADING,
        **_SNR,
        "set_alpha_to_one": True,
    },
    "DDPMScheduler": {
        **_TABLE,
        **_CLIPPED,
        **_THRESHOLD,
        **_LEADING,
        **_SNR,
        "variance_type": "fixed_small",
    },
    "PNDMScheduler": {**_TABLE, **_LEADING, "set_alpha_to_one": False, "skip_prk_steps": False},
    "DPMSolverMultistepScheduler": {**_DPM, **_DYNAMIC, **_SNR, "euler_at_final": False},
    "DPMSolverSinglestepScheduler": {
        **{
            k: v
            for k, v in _DPM.items()
            if k not in ("timestep_spacing", "steps_offset", "use_lu_lambdas")
        },
        **_DYNAMIC,
        "lower_order_final": False,
    },
    "DEISMultistepScheduler": {
        **_SOLVER,
        **_DYNAMIC,
        "algorithm_type": "deis",
        "solver_type": "logrho",
    },
    "UniPCMultistepScheduler": {
        **_SOLVER,
        **_DYNAMIC,
        **_ZERO,
        **_SNR,
        **dict.fromkeys(("sigma_min", "sigma_max", "shift_terminal", "solver_p")),
        "solver_type": "bh2",
        "predict_x0": True,
        "disable_corrector": [],
    },
    "SASolverScheduler": {
        **{k: v for k, v in _SOLVER.items() if k != "solver_order"},
        **_UNCUT,
        "algorithm_type": "data_prediction",
        "predictor_order": 2,
        "corrector_order": 2,
        "tau_func": None,
    },
    "EulerDiscreteScheduler": {
        **_TABLE,
        **_SPECIAL,
        **_ZERO,
        **_SNR,
        "interpolation_type": "linear",
        "timestep_type": "discrete",
        "sigma_min": None,
        "sigma_max": None,
    },
    "EulerAncestralDiscreteScheduler": {**_TABLE, **_SNR},
    "HeunDiscreteScheduler": {**_TABLE, **_LATENT, **_SPECIAL, **_CLIPPED, "clip_sample": False},
    "KDPM2DiscreteScheduler": {**_TABLE, **_LATENT, **_SPECIAL},
    "KDPM2AncestralDiscreteScheduler": {**_TABLE, **_LATENT, **_SPECIAL},
    "LMSDiscreteScheduler": {**_TABLE, **_SPECIAL},
    "EDMEulerScheduler": _EDM,
    "EDMDPMSolverMultistepScheduler": {
        **_EDM,
        **_ORDERED,
        **_THRESHOLD,
        "algorithm_type": "dpmsolver++",
        "solver_type": "midpoint",
        "euler_at_final": False,
    },
    "FlowMatchEulerDiscreteScheduler": {
        **_DYNAMIC,
        **_TOKENS,
        **_SPECIAL,
        "shift": 1.0,
        "shift_terminal": None,
        "invert_sigmas": False,
        "stochastic_sampling": False,
    },
    "FlowMatchHeunDiscreteScheduler": {"shift": 1.0},
    "LCMScheduler": _DISTILLED,
    "TCDScheduler": _DISTILLED,
    "IPNDMScheduler": {"trained_betas": None},
}

_MOVED = {*_FLOW, *_DYNAMIC}
#: class -> the keys that its configs of diffusers 0.31 do not have
LATER: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler"),
        frozenset(_MOVED),
    ),
    "UniPCMultistepScheduler": frozenset(_MOVED | {"sigma_min", "sigma_max", "shift_terminal"}),
    "SASolverScheduler": frozenset(_FLOW),
    "EDMEulerScheduler": frozenset(_ZERO),
    "FlowMatchEulerDiscreteScheduler": frozenset(
        {*_SPECIAL, "time_shift_type", "shift_terminal", "invert_sigmas", "stochastic_sampling"}
    ),
}


def class_defaults(name: str) -> dict[str, Any]:
    """The keys of a config of the class ``name`` with their defaults; empty for a class that is not
    known."""
    name = SAME.get(name, name)
    return {"num_train_timesteps": 1000, **_KEYS[name]} if name in STYLES else {}


def filled(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with the defaults of the class named by ``origin``, else by ``_class_name``, where
    that is known."""
    return {**class_defaults(str(config.get("origin") or config.get("_class_name"))), **config}

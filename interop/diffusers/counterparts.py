"""The registered sampler, with its options, that equals each diffusers scheduler class.

``counterpart(config, steps)`` applies when no ``sampler`` is given. Options may depend on the
number of steps: DPM-Solver and DEIS lower their order at the end only below 15 steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .config import ConfigError

Counterpart = tuple[str, dict[str, Any]]

_DATA = {2: "dpmpp_2m", 3: "dpmpp_3m_compat"}
_NOISE = {1: "dpm_solver_1", 2: "dpm_solver_2m", 3: "dpm_solver_3m"}
_SINGLE = {
    ("++", 2): "dpmpp_2s",
    ("", 2): "dpm_solver_2",
    ("++", 3): "dpmpp_3s",
    ("", 3): "dpm_solver_3",
}
_PLAIN = {
    "DDIMScheduler": "ddim",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "HeunDiscreteScheduler": "heun",
    "KDPM2DiscreteScheduler": "dpm2",
    "KDPM2AncestralDiscreteScheduler": "dpm2_ancestral",
    "LMSDiscreteScheduler": "lms",
    "EDMEulerScheduler": "euler",
    "FlowMatchHeunDiscreteScheduler": "flow_heun",
    "IPNDMScheduler": "ipndm",
    "TCDScheduler": "tcd",
}
_UNIPC = {"bh1": "bh1", "bh2": "midpoint"}
_CORRECTIONS = {"midpoint": "midpoint", "heun": "exact"}


def counterpart(config: Mapping[str, Any], steps: int) -> Counterpart:
    """Return the registered sampler and the options that reproduce the class of this config. Raises
    ConfigError if there is none."""
    origin = config["origin"]
    if origin in ("DPMSolverMultistepScheduler", "EDMDPMSolverMultistepScheduler"):
        return _multistep(config, steps)
    if origin == "DPMSolverSinglestepScheduler":
        return _singlestep(config, steps)
    if origin == "DDPMScheduler":
        return _ddpm(config)
    if origin == "PNDMScheduler":
        if not config["skip_prk_steps"]:
            return "pndm", {}
        # plms takes two calls for its first step: two calls are better two steps
        return ("plms" if steps > 2 else "ddim"), {}
    if origin == "UniPCMultistepScheduler":
        return _unipc(config)
    if origin == "DEISMultistepScheduler":
        _only(config, "solver_type", ("logrho", "midpoint", "heun", "bh1", "bh2"))
        lower = bool(config["lower_order_final"]) and steps < 15
        return "deis", {
            "variant": "logrho",
            "order": config["solver_order"],
            "lower_order_final": lower,
        }
    if origin == "SASolverScheduler":
        return _sa_solver(config)
    if origin == "LCMScheduler":
        return "lcm", {"timestep_scaling": float(config["timestep_scaling"])}
    # fresh noise at each level is what a consistency sampler does
    if origin == "FlowMatchEulerDiscreteScheduler":
        return ("lcm" if config["stochastic_sampling"] else "flow_euler"), {}
    return _PLAIN[origin], {}


def _only(config: Mapping[str, Any], key: str, allowed: tuple[Any, ...]) -> Any:
    if config[key] not in allowed:
        raise ConfigError(
            f"{key}={config[key]!r} of {config['origin']}: allowed: "
            f"{', '.join(map(repr, allowed))}; or give sampler="
        )
    return config[key]


def _multistep(config: Mapping[str, Any], steps: int) -> Counterpart:
    kinds = ("dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++")
    algorithm, order = (
        _only(config, "algorithm_type", kinds),
        _only(config, "solver_order", (1, 2, 3)),
    )
    lower = bool(config["lower_order_final"]) and steps < 15
    # a last step to 0 has order 1 anyway
    if config.get("euler_at_final") and not lower and config["final_sigmas_type"] != "zero":
        if order == 3:
            raise ConfigError(
                "euler_at_final=True with solver_order=3: its last step alone is lowered, "
                "which is not supported: give order 2"
            )
        lower = True
    options = {
        "lower_order_final": lower,
        "correction": _CORRECTIONS[_only(config, "solver_type", tuple(_CORRECTIONS))],
    }
    if algorithm.startswith("sde"):
        _only(config, "solver_order", (1, 2))
        if order == 1:
            return ("ddim", {"tau": 1.0}) if "++" in algorithm else ("sde_dpm_solver_1", {})
        return ("dpmpp_2m_sde" if "++" in algorithm else "sde_dpm_solver_2m"), options
    if algorithm == "dpmsolver++":
        return ("ddim", {}) if order == 1 else (_DATA[order], options)
    if order == 3:
        options["third"] = "halved"
    return _NOISE[order], ({} if order == 1 else options)


def _singlestep(config: Mapping[str, Any], steps: int) -> Counterpart:
    algorithm, order = (
        _only(config, "algorithm_type", ("dpmsolver", "dpmsolver++")),
        _only(config, "solver_order", (1, 2, 3)),
    )
    correction = {"midpoint": "midpoint_compat" if order == 3 else "midpoint", "heun": "exact"}[
        _only(config, "solver_type", ("midpoint", "heun"))
    ]
    form = "++" if "++" in algorithm else ""
    if order == 1:
        return "ddim" if form else "dpm_solver_1", {}
    # as there: what does not divide lowers the end
    low = config["lower_order_final"] or steps % order
    return _SINGLE[form, order], {
        "blocks": "fill_low" if low else "fill_high",
        "correction": correction,
    }


def _ddpm(config: Mapping[str, Any]) -> Counterpart:
    if str(config["variance_type"]).startswith("learned"):
        raise ConfigError(
            f"variance_type={config['variance_type']!r}: a variance that the network "
            "predicts is no coefficient of a plan; "
            'give sampler="ddpm" (its fixed variance) or any other sampler: the predicted '
            "variance is then cut off"
        )
    return "ddpm", {
        "variance": _only(
            config, "variance_type", ("fixed_small", "fixed_small_log", "fixed_large")
        ).removesuffix("_log")
    }


def _unipc(config: Mapping[str, Any]) -> Counterpart:
    return "unipc", {
        "order": config["solver_order"],
        "correction": _UNIPC[_only(config, "solver_type", tuple(_UNIPC))],
        "kind": "x0" if config["predict_x0"] else "eps",
        "lower_order_final": bool(config["lower_order_final"]),
        "skip_corrector": tuple(config["disable_corrector"] or ()),
    }


def _sa_solver(config: Mapping[str, Any]) -> Counterpart:
    kind = {"data_prediction": "x0", "noise_prediction": "eps"}[
        _only(config, "algorithm_type", ("data_prediction", "noise_prediction"))
    ]
    return "sa_solver", {
        "predictor_order": config["predictor_order"],
        "corrector_order": config["corrector_order"],
        "kind": kind,
        "correction": "linear",
        "interval": (200.0, 800.0),
        "end_noise": True,
        "lower_order_final": bool(config["lower_order_final"]),
    }

"""The ends of what is allowed: a number at an end is taken, the next one beyond it is refused, for
every option and key with a range."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fewstep.checks import ConfigError
from fewstep.samplers import SamplerError, get, make_options, names
from fewstep.samplers.budgets import largest
from fewstep.schedules.diffusers.config import read
from fewstep.schedules.diffusers.values import checked

SCALES = (0.0, 10.0)
CHURN = {"s_churn": (0.0, 1e6), "s_tmin": (0.0, 1e9), "s_tmax": (0.0, 1e9), "s_noise": SCALES}
ANCESTRAL = {"tau": SCALES, "s_noise": SCALES}
SDE = {"tau": (0.0, 4.0), "s_noise": SCALES}
STAGES = {"r1": (1e-3, 1.0), "r2": (1e-3, 1.0)}
V3 = {"l": (-20.0, 20.0), "s": (-20.0, 20.0)}
CALLS = {"max_nfe": (1, 2**31)}
RUNGE = {"rtol": (1e-14, 1.0), "atol": (1e-14, 1.0), **CALLS}

#: sampler -> option -> (least, largest)
OPTIONS: dict[str, dict[str, tuple[float, float]]] = {
    "adaptive_sde": {
        "tau": (1e-6, 10.0),
        "rtol": (1e-10, 1.0),
        "atol": (1e-10, 10.0),
        "h0": (1e-6, 10.0),
        **CALLS,
    },
    "bdia": {"gamma": (0.05, 1.0)},
    "consistency": {"floor": (0.0, 1e3)},
    "dc_solver": {"order": (1, 4)},
    "ddim": {"tau": (0.0, 1.0)},
    "deis": {"order": (1, 4)},
    "dmcmc": {
        "sweeps": (0, 10**6),
        "burn_in": (0, 10**6),
        "langevin": (1, 1000),
        "levels": (1, 100_000),
        "finish_steps": (1, 10_000),
        "low": (1e-9, 1e9),
        "high": (1e-9, 1e9),
        "jump": (1e-9, 1e9),
        **CALLS,
    },
    "dpm2": CHURN,
    "dpm2_ancestral": ANCESTRAL,
    "dpm_adaptive": {
        "order": (2, 3),
        "rtol": (1e-12, 1.0),
        "atol": (1e-12, 10.0),
        "h0": (1e-6, 10.0),
        "theta": (0.01, 1.0),
        "pcoeff": (-2.0, 2.0),
        "icoeff": (-2.0, 2.0),
        "dcoeff": (-2.0, 2.0),
        "accept_safety": (0.01, 1.0),
        **ANCESTRAL,
        **CALLS,
    },
    "dpm_fast": ANCESTRAL,
    "dpm_solver_2": STAGES,
    "dpm_solver_3": STAGES,
    "dpm_solver_v3": {"order": (1, 3), **V3},
    "dpm_solver_v3_elementwise": {"order": (1, 3), **V3, "b": (-20.0, 20.0), **CALLS},
    "dpmpp_2m_sde": SDE,
    "dpmpp_2s": STAGES,
    "dpmpp_2s_ancestral": ANCESTRAL,
    "dpmpp_2s_ancestral_cfg_pp": ANCESTRAL,
    "dpmpp_3m_sde": SDE,
    "dpmpp_3s": STAGES,
    "dpmpp_sde": {**ANCESTRAL, "r1": (1e-3, 1.0)},
    "edict": {"p": (0.5, 1.0)},
    "er_sde": {"order": (1, 3), "s_noise": SCALES},
    "euler": CHURN,
    "euler_ancestral": ANCESTRAL,
    "euler_ancestral_cfg_pp": ANCESTRAL,
    "exponential_adams": {"order": (1, 6), "points": (0, 5), "scale": (-10.0, 10.0)},
    "flow_adams": {"order": (1, 6)},
    "flow_cps": {"share": (0.0, 1.0)},
    "flow_sde": {"tau": (0.0, 1e3), "order": (1, 2)},
    "ghvb": {"order": (0.05, 5.0)},
    "gradient_estimation": {"gamma": SCALES},
    "gradient_estimation_cfg_pp": {"gamma": SCALES},
    "heavy_ball": {"beta": (0.05, 1.0), "order": (1, 4)},
    "heun": CHURN,
    "interpolant_sde": {"scale": (0.0, 1e3)},
    "ipndm": {"order": (1, 4)},
    "ipndm_v": {"order": (1, 4)},
    "lcm": {"timestep_scaling": (0.0, 1e9)},
    "lms": {"order": (1, 32)},
    "mr_ode": {"order": (1, 2)},
    "mr_sde": {"order": (1, 2)},
    "ode45": RUNGE,
    "ode853": RUNGE,
    "pc": {"snr": (1e-6, 10.0), "delta": (1e-6, 1.0), "corrections": (1, 1000), **CALLS},
    "pfgmpp": CHURN,
    "picard": {"window": (1, 10_000), "tol": SCALES, **CALLS},
    "rectified_cfg_pp": {"gamma": (0.0, 100.0), "stage": (1e-3, 1.0)},
    "res_2s": {"r1": (1e-3, 1.0)},
    "res_3s": {"r2": (1e-3, 1.0)},
    "restart": {"s_noise": SCALES},
    "sa_solver": {"predictor_order": (1, 4), "corrector_order": (0, 5), "tau": (0.0, 3.0)},
    "sada": {
        "first": (0.0, 1.0),
        "late": (0.0, 1.0),
        "last": (0.0, 1.0),
        "most": (0, 1000),
        "interval": (2, 1000),
        "anchors": (0, 8),
        **CALLS,
    },
    "sde_dpm_solver_1": {"tau": (0.0, 3.0), "s_noise": SCALES},
    "sde_dpm_solver_2m": {"tau": (0.0, 3.0), "s_noise": SCALES},
    "skipped": {"every": (1, 1000), "points": (1, 8)},
    "seeds_2": {"tau": (0.0, 3.0), "r1": (0.05, 0.95)},
    "seeds_3": {"tau": (0.0, 3.0)},
    "tcd": {"gamma": (0.0, 1.0)},
    "unip": {"order": (1, 6)},
    "unipc": {"order": (1, 4)},
}
#: what else an option at its end needs
WITH: dict[tuple[str, str], dict[str, Any]] = {("res_3s", "r2"): {"r1": 0.4}}


def beyond(low: float, high: float) -> tuple[float, float]:
    """The next numbers below and above."""
    if isinstance(low, int):
        return low - 1, high + 1
    return math.nextafter(low, -math.inf), math.nextafter(high, math.inf)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_at_its_ends(name: str) -> None:
    for option, ends in OPTIONS[name].items():
        more = WITH.get((name, option), {})
        for value in ends:
            assert getattr(make_options(get(name), {option: value, **more}), option) == value
        for value in beyond(*ends):
            with pytest.raises(SamplerError, match=f"{option}="):
                make_options(get(name), {option: value, **more})


def test_every_option_that_is_a_number_has_ends() -> None:
    """A sampler that is new has its ranges above; aliases of the same options and a third-order
    rule in two forms need no second row."""
    unlisted = {}
    for name in names():
        options = get(name).options()
        values = {k: getattr(options, k) for k in options.__dataclass_fields__}
        left = {
            k for k, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool)
        } - set(OPTIONS.get(name, {}))
        if left:
            unlisted[name] = left
    assert unlisted == {
        "dmcmc": {"eta"},  # its largest value goes by ``step``
        "dpmpp_3m_sde_compat": {"tau", "s_noise"},
        "er_sde_compat": {"order", "s_noise"},
        "ipndm_v_compat": {"order"},
        "res_3s": {"r1"},
        "res_multistep_ancestral_cfg_pp": {"tau", "s_noise"},
    }


def test_intervals_of_restart_at_their_ends() -> None:
    base = [3, 3, 0.1, 0.3]
    for place, (low, high) in enumerate([(2, 1000), (1, 1000), (1e-9, 0.3), (0.1, 1e9)]):
        for value in (low, high):
            made = [*base[:place], value, *base[place + 1 :]]
            assert make_options(get("restart"), {"intervals": [made]}).intervals == (tuple(made),)
        for value in beyond(low, high):
            with pytest.raises(SamplerError, match="restart"):
                make_options(
                    get("restart"), {"intervals": [[*base[:place], value, *base[place + 1 :]]]}
                )


@pytest.mark.parametrize(("step", "most"), [("renoise", 1.0), ("langevin", 2.0), ("constant", 1e9)])
def test_the_step_of_dmcmc(step: str, most: float) -> None:
    """A Langevin step of more than 2 does not contract, a renoising one of more than 1 has no
    root."""
    for value in (1e-9, most):
        assert make_options(get("dmcmc"), {"step": step, "eta": value}).eta == value
    for value in beyond(1e-9, most):
        with pytest.raises(SamplerError, match="eta="):
            make_options(get("dmcmc"), {"step": step, "eta": value})


CONFIG = {"_class_name": "DPMSolverMultistepScheduler"}
#: keys of a diffusers config
KEYS: dict[str, tuple[float, float]] = {
    "beta_start": (1e-12, 1.0),
    "beta_end": (1e-12, 1.0),
    "sigma_min": (1e-9, 1e9),
    "sigma_max": (1e-9, 1e9),
    "shift": (1e-3, 1e4),
    "flow_shift": (1e-3, 1e4),
    "base_shift": (-20.0, 20.0),
    "max_shift": (-20.0, 20.0),
    "sigma_data": (1e-6, 1e6),
    "rho": (0.1, 1e3),
    "shift_terminal": (0.0, 0.999),
    "clip_sample_range": (1e-6, 1e9),
    "dynamic_thresholding_ratio": (0.0, 1.0),
    "sample_max_value": (1e-6, 1e9),
    "timestep_scaling": (1e-3, 1e6),
    "num_train_timesteps": (2, 100_000),
    "steps_offset": (0, 100_000),
    "original_inference_steps": (1, 100_000),
    "base_image_seq_len": (1, 2**31),
    "max_image_seq_len": (1, 2**31),
    "solver_order": (1, 9),
    "predictor_order": (1, 9),
    "corrector_order": (0, 9),
    "noise_seed": (-(2**63), 2**64 - 1),
}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_a_config_at_its_ends(key: str) -> None:
    for value in KEYS[key]:
        assert checked({**CONFIG, key: value})[key] == value
    for value in beyond(*KEYS[key]):
        with pytest.raises(ConfigError, match=f"{key}="):
            checked({**CONFIG, key: value})


def test_keys_of_a_config_that_go_together() -> None:
    for given in ({"sigma_min": 0.5, "sigma_max": 0.5}, {"sigma_min": 0.5, "sigma_max": 0.4}):
        with pytest.raises(ConfigError, match=r"sigma_min=0\.5"):
            checked({**CONFIG, **given})
    assert (
        checked({**CONFIG, "sigma_min": 0.5, "sigma_max": math.nextafter(0.5, 1.0)})["sigma_min"]
        == 0.5
    )
    with pytest.raises(ConfigError, match="base_image_seq_len=256"):
        checked({**CONFIG, "base_image_seq_len": 256, "max_image_seq_len": 256})
    assert (
        checked({**CONFIG, "base_image_seq_len": 256, "max_image_seq_len": 255})[
            "max_image_seq_len"
        ]
        == 255
    )
    for table, taken in (
        ([0.1, 1.0], True),
        ([0.1], False),
        ([0.0, 0.1], False),
        ([0.1, math.nextafter(1.0, 2.0)], False),
    ):
        if taken:
            assert checked({**CONFIG, "trained_betas": table})["trained_betas"] == table
        else:
            with pytest.raises(ConfigError, match="trained_betas="):
                checked({**CONFIG, "trained_betas": table})
    for value in (-1e9, 1e9, -math.inf):
        assert checked({**CONFIG, "lambda_min_clipped": value})["lambda_min_clipped"] == value
    for value in (*beyond(-1e9, 1e9), math.nan, True):
        with pytest.raises(ConfigError, match="lambda_min_clipped="):
            checked({**CONFIG, "lambda_min_clipped": value})
    assert checked({**CONFIG, "disable_corrector": [0, 100_000]})["disable_corrector"] == [
        0,
        100_000,
    ]
    for places in ([-1], [100_001]):
        with pytest.raises(ConfigError, match="disable_corrector="):
            checked({**CONFIG, "disable_corrector": places})


def test_a_flow_s_levels_are_at_most_one() -> None:
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_exponential_sigmas": True}
    assert read({**flow, "sigma_max": 1.0, "sigma_min": 0.5}).high == 1.0
    for key in ("sigma_max", "sigma_min"):
        with pytest.raises(ConfigError, match=f"{key}="):
            read({**flow, key: math.nextafter(1.0, 2.0)})


#: what a key means that holds None, or a class that has no such key
DEFAULTS = {
    "EDMEulerScheduler": {"levels": (0.002, 80.0), "rho": 7.0, "special": "karras", "end": "zero"},
    "DPMSolverMultistepScheduler": {
        "rho": 7.0,
        "shift": 1.0,
        "offset": 0,
        "special": "",
        "dynamic": "",
        "terminal": 0.0,
        "clip": None,
    },
    "FlowMatchEulerDiscreteScheduler": {
        "shift": 1.0,
        "prediction": "velocity",
        "scale": 1000.0,
        "end": "zero",
        "terminal": 0.0,
    },
    "DDIMScheduler": {
        "clip": 1.0,
        "end": "zero",
        "spacing": "leading",
        "prediction": "eps",
        "first": 999,
        "learned": False,
    },
    "LCMScheduler": {"skipping": 50, "end": "zero"},
    "TCDScheduler": {"skipping": 50, "end": "sigma_min"},
    "DEISMultistepScheduler": {"end": "sigma_min"},
    "DPMSolverSinglestepScheduler": {"spacing": "linspace"},
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_is_not_said_means_what_the_class_means(name: str) -> None:
    keys = (
        "sigma_min",
        "sigma_max",
        "rho",
        "clip_sample_range",
        "steps_offset",
        "shift_terminal",
        "prediction_type",
    )
    for given in ({}, dict.fromkeys(keys)):
        found = read({"_class_name": name, **given})
        assert {k: getattr(found, k) for k in DEFAULTS[name]} == DEFAULTS[name]


def test_thresholding_by_default() -> None:
    """(ratio, bound) of dynamic thresholding; without it the bound of clipping."""
    config = {
        "_class_name": "DDIMScheduler",
        "thresholding": True,
        "clip_sample": True,
        "clip_sample_range": 2.0,
    }
    assert read(config).clip == (0.995, 1.0)
    assert read({**config, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.5}).clip == (
        0.9,
        1.5,
    )
    assert (
        read({**config, "thresholding": False}).clip == 2.0
        and read({**config, "thresholding": False, "clip_sample": False}).clip is None
    )


def test_options_of_several_values_may_be_arrays() -> None:
    for tau in ([0.5, 1.0], (0.5, 1.0), np.array([0.5, 1.0])):
        assert make_options(get("sa_solver"), {"tau": tau}).tau == (0.5, 1.0)
    assert make_options(get("sa_solver"), {"tau": np.float64(0.5)}).tau == 0.5
    with pytest.raises(SamplerError, match="tau="):
        make_options(get("sa_solver"), {"tau": np.array([0.5, 3.5])})


def test_no_size_is_below_the_least() -> None:
    """``largest`` of an empty range of sizes is none, and of one size that size or none."""
    assert [
        largest(lambda size: size, most, 100, least)
        for least, most in ((3, 2), (3, 3), (1, 0), (4, 9))
    ] == [0, 3, 0, 9]
    assert [largest(lambda size: 2 * size, 9, budget, 3) for budget in (5, 6, 7, 8, 18, 19)] == [
        0,
        3,
        3,
        4,
        9,
        9,
    ]

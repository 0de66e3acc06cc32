"""Each scheduler class of diffusers against its counterpart, given the same config; and where theirs deviates, by what."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers_loops import SD, distance, noise, ours, sample, theirs

from fewstep.interop import diffusers_run

#: theirs warns of its own settings (algorithm_type="dpmsolver" and so on)
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning:diffusers", "ignore::UserWarning:diffusers", "ignore:__array_wrap__:DeprecationWarning"
)

OFFSET = {"steps_offset": 1, "timestep_spacing": "leading"}
V = {"prediction_type": "v_prediction"}
SVD = {"use_karras_sigmas": True, "sigma_min": 0.002, "sigma_max": 700.0, "timestep_type": "continuous", **V, "timestep_spacing": "leading"}
BETAS = [0.01 + 0.0001 * k for k in range(100)]
EQUAL: list[tuple[str, dict[str, Any]]] = [
    ("DDIM", {"clip_sample": False, "set_alpha_to_one": False, **OFFSET, **SD}),
    ("DDIM", {"clip_sample": False, "beta_schedule": "squaredcos_cap_v2", **V}),
    ("DDIM", {"clip_sample": False, "prediction_type": "sample", "num_train_timesteps": 100, "trained_betas": BETAS}),
    ("DDIM", {"clip_sample": False, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing", **SD, **V}),
    ("DDPM", {"clip_sample": False}),
    ("DDPM", {"clip_sample": True}),
    ("DDPM", {"clip_sample": False, "thresholding": True, "sample_max_value": 2.0}),
    ("DDPM", {"clip_sample": False, "variance_type": "fixed_large", "beta_schedule": "sigmoid"}),
    ("DPMSolverMultistep", SD),
    ("DPMSolverMultistep", {"solver_order": 3, **OFFSET}),
    ("DPMSolverMultistep", {"solver_order": 1, "timestep_spacing": "trailing", **V}),
    ("DPMSolverMultistep", {"solver_type": "heun", "thresholding": True}),
    ("DPMSolverMultistep", {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}),
    ("DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++", **SD}),
    ("DPMSolverMultistep", {"lambda_min_clipped": -2.0, "beta_schedule": "squaredcos_cap_v2"}),
    ("DPMSolverSinglestep", {"lower_order_final": True, **SD}),
    ("DPMSolverSinglestep", {"lower_order_final": True, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}),
    ("DEISMultistep", SD),
    ("DEISMultistep", {"solver_order": 3, "timestep_spacing": "trailing"}),
    ("UniPCMultistep", SD),
    ("UniPCMultistep", {"solver_order": 3, "prediction_type": "sample", "disable_corrector": [0, 1]}),
    ("UniPCMultistep", {"solver_order": 3, "predict_x0": False, "final_sigmas_type": "sigma_min", **OFFSET}),
    ("HeunDiscrete", SD),
    ("HeunDiscrete", {"timestep_spacing": "trailing", **V}),
    ("EulerDiscrete", SD),
    ("EulerDiscrete", {"use_karras_sigmas": True, **SD}),
    ("EulerDiscrete", {"use_exponential_sigmas": True, **OFFSET}),
    ("EulerDiscrete", {"use_beta_sigmas": True, **V}),
    ("EulerDiscrete", {"final_sigmas_type": "sigma_min", "timestep_spacing": "trailing"}),
    ("EulerDiscrete", SVD),
    ("EulerAncestralDiscrete", SD),
    ("KDPM2Discrete", SD),
    ("KDPM2AncestralDiscrete", {**OFFSET, **SD}),
    ("LMSDiscrete", {"use_karras_sigmas": True, **SD}),
    ("EDMEuler", {}),
    ("EDMEuler", {"sigma_data": 1.0, "sigma_schedule": "exponential", **V}),
    ("EDMDPMSolverMultistep", {"solver_order": 3, "final_sigmas_type": "zero"}),
    ("FlowMatchEulerDiscrete", {"shift": 3.0}),
    ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True}),
    ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True, "time_shift_type": "linear", "shift_terminal": 0.1}),
    ("FlowMatchEulerDiscrete", {"shift": 2.0, "use_karras_sigmas": True}),
    ("FlowMatchEulerDiscrete", {"shift": 2.0, "stochastic_sampling": True}),
    ("FlowMatchHeunDiscrete", {"shift": 3.0}),
    ("LCM", {}),
    ("TCD", {}),
]


def tolerance(name: str, config: dict[str, Any], scheduler: Any) -> float:
    """A few float32 roundings: of the largest state that their side holds, which is sigma / alpha where they do not scale it, and of
    ``1 - alpha_bar``, which they form in float32 (one step of linspace starts at t = 0, where it is small)."""
    first = float(scheduler.sigmas[0]) if hasattr(scheduler, "sigmas") else 1.0
    return 4e-6 + 4e-7 * max(1.0, first) + 1.2e-7 / first**2


@pytest.mark.parametrize("case", EQUAL, ids=[f"{i}-{name}" for i, (name, _) in enumerate(EQUAL)])
def test_the_counterpart_of_a_class_gives_its_latents(case):
    name, config = case
    given = {"mu": 0.8} if config.get("use_dynamic_shifting") else {}
    for steps in (1, 2, 3, 5, 10, 20):
        if steps == 3 and name == "DDIM" and ("trained_betas" in config or config.get("timestep_spacing") == "trailing"):
            continue  # 3 does not divide T: their previous time is no entry of the list, see below
        if steps == 20 and name.startswith("KDPM2"):
            continue  # theirs takes seconds to set up
        if steps == 1 and (config.get("shift_terminal") or config.get("sigma_schedule") == "exponential"):
            continue  # their stretch divides by zero; their one exponential level is sigma_min
        if name == "DPMSolverSinglestep" and "final_sigmas_type" in config and steps % 2 == 0:
            continue  # theirs ends with two first-order steps there, ours with a block of order 2
        a = theirs(name, config)
        x, calls = sample(a, steps, **given)
        y, mine = sample(ours(name, config), steps, **given)
        assert mine == calls
        assert distance(y, x) < tolerance(name, config, a), steps


def test_plms_counts_network_calls():
    """Their N steps are N + 1 calls; ours are asked for by calls, so that no slice of the list is inside a step."""
    config = {"skip_prk_steps": True, "steps_offset": 1, **SD}
    for steps in (2, 3, 5, 10, 20):
        x, calls = sample(theirs("PNDM", config), steps)
        y, mine = sample(ours("PNDM", config), steps + 1)
        assert mine == calls == steps + 1 and distance(y, x) < 4e-6


@pytest.mark.parametrize("name", ["DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep"])
def test_flow_levels_differ_by_their_truncated_time_alone(name):
    """Theirs casts the times of a flow to integers. (UniPC's first sigma is 1 - 1e-6 there, and its prediction kept: given here.)"""
    config = {"lower_order_final": True, "use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    for steps in (2, 5, 10):
        mine, other = ours(name, config), theirs(name, config)
        other.set_timesteps(steps)
        given = {"sigmas": other.sigmas[:-1].double()} if name == "UniPCMultistep" else {}
        y, _ = sample(mine, None if given else steps, **given)
        times = mine.timesteps.tolist()
        exact, _ = sample(other, steps, told=lambda k, t, times=times: times[k])
        cut, _ = sample(theirs(name, config), steps)
        assert distance(y, exact) < 1e-5 < distance(y, cut)


@pytest.mark.parametrize("name", ["DPMSolverMultistep", "UniPCMultistep"])
def test_karras_levels_differ_by_their_rounded_time_alone(name):
    config = {"use_karras_sigmas": True, **SD}
    for steps in (3, 10, 20):
        mine = ours(name, config)
        y, _ = sample(mine, steps)
        times = mine.timesteps.tolist()
        exact, _ = sample(theirs(name, config), steps, told=lambda k, t, times=times: times[k])
        assert distance(y, exact) < 4e-6
        whole = ours(name, config, round_timesteps=True)
        z, _ = sample(whole, steps)
        x, _ = sample(theirs(name, config), steps)
        assert distance(z, x) < 4e-6 < distance(y, x)
        assert 0.0 < whole.time_mismatch <= 0.5 and mine.time_mismatch == 0.0


def test_ddim_steps_to_the_next_time_of_the_list():
    """Theirs steps to t - T // N, which with trailing spacing is no entry of the list where N does not divide T."""
    config = {"clip_sample": False, "timestep_spacing": "trailing", **SD}
    x, _ = sample(theirs("DDIM", config), 30)
    y, _ = sample(ours("DDIM", config), 30)
    fine, _ = sample(ours("DDIM", config), 500)
    assert distance(y, x) > 1e-4
    assert distance(y, fine) < distance(x, fine)


def test_ddim_clips_and_takes_the_noise_of_the_clipped_data():
    """With clip_sample theirs keeps the unclipped noise prediction unless told otherwise."""
    config = {"clip_sample": True}
    a, b = theirs("DDIM", config), ours("DDIM", config)
    for s in (a, b):
        s.set_timesteps(10)
    x, t, output = noise(), a.timesteps[3], 3.0 * noise(7)
    b.set_begin_index(3)
    mine = b.step(output, t, x).prev_sample
    assert distance(mine, a.step(output, t, x, use_clipped_model_output=True).prev_sample) < 4e-6
    assert distance(mine, a.step(output, t, x).prev_sample) > 0.1


def test_unipc_bh1_is_finite_at_sigma_zero():
    config = {"solver_order": 3, "solver_type": "bh1"}
    assert not torch.isfinite(sample(theirs("UniPCMultistep", config), 5)[0]).all()
    y, _ = sample(ours("UniPCMultistep", config), 40)
    z, _ = sample(ours("UniPCMultistep", {"solver_order": 3}), 40)
    assert distance(y, z) < 1e-2


def test_ipndm_keeps_the_data_prediction_of_its_first_step():
    """Theirs takes x0 = 0 at alpha = 0; the difference is of the first step, and vanishes."""
    near, far = (distance(sample(theirs("IPNDM", {}), n)[0], sample(ours("IPNDM", {}), n)[0]) for n in (20, 5))
    assert near < 0.5 * far


@pytest.mark.parametrize("algorithm", ["data_prediction", "noise_prediction"])
def test_sa_solver_with_the_noise_of_each_step(algorithm, monkeypatch):
    """Theirs draws a noise a step and throws most of them away; ours draws what it uses. Given the noise by step, they agree."""
    import diffusers.schedulers.scheduling_sasolver as module

    config = {"algorithm_type": algorithm, **SD}
    place = {"k": 0}

    def drawn(shape: Any, **_: Any) -> torch.Tensor:
        place["k"] += 1
        return noise(100 + place["k"] - 1)

    monkeypatch.setattr(module, "randn_tensor", drawn)
    monkeypatch.setattr(diffusers_run.Run, "_draw", lambda self, key, like: noise(100 + self.index - 1))
    for steps in (1, 2, 3, 5, 10, 20):
        place["k"] = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x, _ = sample(theirs("SASolver", config), steps)
        y, _ = sample(ours("SASolver", config), steps)
        assert distance(y, x) < 2e-5, steps


@pytest.mark.parametrize("name", ["DDIM", "DPMSolverMultistep", "EulerDiscrete", "HeunDiscrete"])
def test_times_of_the_caller(name):
    config = {"clip_sample": False} if name == "DDIM" else SD
    times = [900, 500, 200, 50]
    if name == "DDIM":
        y, calls = sample(ours(name, config), None, timesteps=times)
        z, _ = sample(ours("DPMSolverMultistep", {"solver_order": 1}), None, timesteps=times)
        assert calls == 4 and distance(y, z) < 1e-6
        return
    x, calls = sample(theirs(name, config), None, timesteps=times)
    y, mine = sample(ours(name, config), None, timesteps=times)
    assert mine == calls and distance(y, x) < 1e-5


def test_sigmas_of_the_caller():
    levels = [14.6, 6.3, 1.3, 0.4, 0.0]
    x, _ = sample(theirs("EulerDiscrete", SD), None, sigmas=levels)
    y, _ = sample(ours("EulerDiscrete", SD), None, sigmas=levels)
    assert distance(y, x) < 1e-5
    flow = [1.0, 0.8, 0.3]
    x, _ = sample(theirs("FlowMatchEulerDiscrete", {"shift": 2.0}), None, sigmas=flow)
    y, _ = sample(ours("FlowMatchEulerDiscrete", {"shift": 2.0}), None, sigmas=flow)
    z, _ = sample(ours("FlowMatchEulerDiscrete", {"shift": 2.0}), None, sigmas=[*flow, 0.0])
    assert distance(y, x) < 1e-6 and torch.equal(y, z)

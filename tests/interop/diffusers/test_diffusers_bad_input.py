"""What cannot be honoured is refused, with the value, what is allowed, and what to do instead."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers_loops import SD, noise, ours

from fewstep import FewstepScheduler
from fewstep.interop.diffusers.config import ConfigError
from fewstep.plans.instructions import PlanError
from fewstep.samplers import SamplerError
from fewstep.schedules import ConversionError

#: diffusers hands numpy functions a torch tensor
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
FLOW = ("FlowMatchEulerDiscrete", {"shift": 3.0})


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        ({"beta_strat": 0.1}, {}, "did you mean 'beta_start'"),
        ({}, {"use_karas_sigmas": True}, "use_karas_sigmas"),
        ({}, {"eta": 0.5}, "sampler="),
        ({"prediction_type": "eps"}, {}, "prediction_type"),
        ({"timestep_spacing": "middle"}, {}, "timestep_spacing"),
        (
            {},
            {"sampler": "unipc", "use_karras_sigmas": True, "use_beta_sigmas": True},
            "one of them",
        ),
        ({}, {"sampler": "dpmpp_2m", "solver_order": 3}, "dpmpp_3m"),
        ({}, {"sampler": "ode45"}, "as it goes"),
        ({"beta_schedule": "cubic"}, {}, "beta_schedule"),
    ],
)
def test_what_is_not_understood_is_refused(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        ours("DDIM", config, **changes)


def test_an_unknown_sampler_or_option_is_refused():
    with pytest.raises(SamplerError, match="unipc"):
        ours("DDIM", {}, sampler="unipcc")
    with pytest.raises(ConfigError, match="correctr"):
        ours("DDIM", {}, sampler="unipc", correctr=False)
    with pytest.raises(ConfigError, match="EulerDiscreteScheduler"):
        FewstepScheduler.from_config({"_class_name": "EulerDiscretScheduler"})
    with pytest.raises(ConfigError, match="tau="):
        ours("SASolver", {"tau_func": abs})
    with pytest.raises(ConfigError, match="variance_type"):
        ours("DDPM", {"variance_type": "learned_range"})


def test_a_prediction_that_says_nothing_at_the_start_is_refused_before_the_first_call():
    zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "clip_sample": False}
    with pytest.raises(ConversionError, match="v, velocity"):
        ours("DDIM", zero).set_timesteps(5)
    ours("DDIM", {**zero, "prediction_type": "v_prediction"}).set_timesteps(5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({}, "num_inference_steps"),
        ({"timesteps": [900, 100], "sigmas": [9.0, 0.0]}, "both given"),
        ({"timesteps": [100, 900]}, "fall strictly"),
        ({"timesteps": [900, 900]}, "fall strictly"),
        ({"timesteps": []}, "empty"),
        ({"timesteps": [1500]}, "999"),
        ({"sigmas": [1.0, 3.0, 0.0]}, "fall strictly"),
        ({"num_inference_steps": 5, "timesteps": [900, 100]}, "leave one"),
        ({"num_inference_steps": 1001}, "trained on 1000"),
        ({"num_inference_steps": -3}, "num_inference_steps"),
        ({"num_inference_steps": "5"}, "'5'"),
        ({"num_inference_steps": 5.0}, "5.0"),
        ({"timesteps": [900, float("nan"), 100]}, "timesteps"),
        ({"timesteps": [-5]}, "timesteps"),
        ({"sigmas": [3.0]}, "at least two are needed"),
    ],
)
def test_bad_lists_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        ours("DDIM", {}).set_timesteps(**given)


def test_a_step_needs_a_run_that_is_not_over():
    s = ours("DDIM", {}, sampler="dpmpp_2m")
    with pytest.raises(PlanError, match="set_timesteps"):
        s.step(noise(), 0, noise())
    s.set_timesteps(4)
    x = noise()
    for t in s.timesteps:
        x = s.step(noise(), t, x).prev_sample
    with pytest.raises(PlanError, match="over"):
        s.step(noise(), s.timesteps[2], x)
    s.set_timesteps(2)
    with pytest.raises(ValueError, match="none of this run"):
        s.step(noise(), 123, x)
    with pytest.raises(ValueError, match="shape"):
        s.step(noise(n=1), s.timesteps[0], x)


def test_a_begin_inside_a_step_is_refused():
    s = ours("KDPM2Discrete", SD)
    s.set_timesteps(5)
    with pytest.raises(ValueError, match="inside a step"):
        s.set_begin_index(1)


@pytest.mark.parametrize(
    ("sampler", "given", "message"),
    [
        ("unipc", {"sigmas": [0.2, 0.9]}, "fall strictly"),
        ("heun", {"timesteps": [1200.0, 300.0]}, "timesteps"),
        ("dpmpp_2m", {"timesteps": [900.0, 300.0], "sigmas": [0.9, 0.3]}, "both given"),
    ],
)
def test_bad_lists_on_a_flow_are_refused(sampler, given, message):
    with pytest.raises(ValueError, match=message):
        ours(*FLOW, sampler=sampler).set_timesteps(**given)


def test_what_a_path_cannot_do_is_refused():
    """An ending, a grid and a shift that the pipeline's path lacks; each says what to give
    instead."""
    with pytest.raises(ConfigError, match='give "zero"'):
        ours(
            "DPMSolverMultistep",
            {
                "use_flow_sigmas": True,
                "prediction_type": "flow_prediction",
                "final_sigmas_type": "sigma_min",
            },
        )
    with pytest.raises(ValueError, match="mu="):
        ours("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True}).set_timesteps(5)
    with pytest.raises(ValueError, match="original_inference_steps"):
        ours("LCM", {}).set_timesteps(51)
    config = {
        "solver_order": 3,
        "algorithm_type": "dpmsolver",
        "final_sigmas_type": "sigma_min",
        "euler_at_final": True,
    }
    with pytest.raises(ConfigError, match="euler_at_final"):
        ours("DPMSolverMultistep", config).set_timesteps(20)


def test_a_sampler_whose_step_costs_more_than_was_given_says_so():
    with pytest.raises(SamplerError, match="pndm cannot do one step with nfe=2"):
        ours("PNDM", {"steps_offset": 1}).set_timesteps(2)


def test_a_refused_call_leaves_the_run_that_was_set_up():
    s = ours("DDIM", {"clip_sample": False})
    s.set_timesteps(4)
    before = s.timesteps.tolist()
    with pytest.raises(ValueError, match="fall strictly"):
        s.set_timesteps(timesteps=[1, 2])
    assert s.timesteps.tolist() == before
    x = s.step(noise(), s.timesteps[0], noise()).prev_sample
    with pytest.raises(ValueError, match="shape"):
        s.step(noise(n=1), s.timesteps[1], x)
    assert s.step_index == 1


@pytest.mark.parametrize("count", [2, 4])
def test_a_list_of_generators_of_another_length_is_refused_and_nothing_is_lost(count):
    s = ours("EulerAncestralDiscrete", SD)
    s.set_timesteps(4)
    x, output = noise(1, 3), noise(2, 3)
    with pytest.raises(ValueError, match=f"{count} generators for 3 samples"):
        s.step(
            output,
            s.timesteps[0],
            x,
            generator=[torch.Generator().manual_seed(i) for i in range(count)],
        )
    fair = [torch.Generator().manual_seed(i) for i in range(3)]
    s.step(output, s.timesteps[0], x, generator=fair)
    assert s.step_index == 1

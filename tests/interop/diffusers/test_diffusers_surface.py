"""What pipelines and training loops read on a scheduler beside ``step``, against diffusers' own
classes; and what is refused, in words."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

import diffusers
from diffusers_loops import SD, noise, ours, sample, theirs

from fewstep.interop.diffusers.config import ConfigError
from fewstep.interop.diffusers.surface import NOT_SERVED

TABLES = [
    ("DDIM", SD),
    ("DDIM", {"set_alpha_to_one": False, **SD}),
    ("PNDM", SD),
    ("LCM", SD),
    ("DDPM", {}),
    ("DDIM", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}),
]


@pytest.mark.parametrize("case", TABLES, ids=str)
def test_the_table_of_betas_is_the_class_s_own(case):
    a, b = theirs(*case), ours(*case)
    for name in ("betas", "alphas", "alphas_cumprod", "final_alpha_cumprod"):
        if hasattr(a, name):
            value = getattr(b, name)
            assert value.dtype == torch.float32 and torch.allclose(
                value, torch.as_tensor(getattr(a, name)), atol=1e-6, rtol=1e-5
            ), name


def test_an_edit_of_the_table_that_was_read_changes_nothing():
    scheduler = ours("DDIM", SD)
    scheduler.alphas_cumprod.zero_()
    scheduler.betas.zero_()
    assert float(scheduler.alphas_cumprod.min()) > 0.0 and float(scheduler.betas.min()) > 0.0


@pytest.mark.parametrize("name", ["DDPM", "LCM"])
def test_previous_timestep(name):
    a, b = theirs(name, SD), ours(name, SD)
    assert b.previous_timestep(500) == a.previous_timestep(500) == 499
    for scheduler in (a, b):
        scheduler.set_timesteps(5)
    assert [int(b.previous_timestep(t)) for t in b.timesteps] == [
        int(a.previous_timestep(t)) for t in a.timesteps
    ]
    with pytest.raises(ValueError, match=r"timestep 3(\.0)? is none"):
        b.previous_timestep(3)


@pytest.mark.parametrize("steps", [1, 4, 20])
@pytest.mark.parametrize(("first", "then"), [(1.0, 7.0), (3.0, 1.0), (3.0, 0.5)])
def test_set_shift_is_the_flow_class_s_own(first, then, steps):
    a, b = (make("FlowMatchEulerDiscrete", {"shift": first}) for make in (theirs, ours))
    for scheduler in (a, b):
        scheduler.set_shift(then)
        scheduler.set_timesteps(steps)
    assert torch.allclose(a.sigmas, b.sigmas, atol=1e-6) and torch.allclose(
        a.timesteps, b.timesteps, atol=1e-3
    )
    assert b.shift == a.shift == then and b.config["shift"] == a.config["shift"] == first
    assert float((sample(a, steps)[0] - sample(b, steps)[0]).abs().max()) < 1e-5


def test_set_shift_on_the_flow_of_another_class():
    """Their UniPC has no set_shift; the new shift is that of a scheduler made with it."""
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    b, made = (
        ours("UniPCMultistep", {**flow, "flow_shift": 3.0}),
        ours("UniPCMultistep", {**flow, "flow_shift": 5.0}),
    )
    b.set_shift(5)
    for scheduler in (b, made):
        scheduler.set_timesteps(6)
    assert b.plan == made.plan


@pytest.mark.parametrize(
    ("case", "value", "kind", "words"),
    [
        (
            ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True}),
            2.0,
            ConfigError,
            "use_dynamic_shifting",
        ),
        (("DDIM", SD), 2.0, ConfigError, "DiscreteVP"),
        (("FlowMatchEulerDiscrete", {}), 0.0, ValueError, "shift=0.0"),
        (("FlowMatchEulerDiscrete", {}), float("nan"), ValueError, "shift=nan"),
        (("FlowMatchEulerDiscrete", {}), "3", ValueError, "shift='3'"),
    ],
    ids=str,
)
def test_a_shift_that_cannot_be_set_is_refused(case, value, kind, words):
    scheduler = ours(*case)
    with pytest.raises(kind, match=words):
        scheduler.set_shift(value)
    assert scheduler.config == ours(*case).config


@pytest.mark.parametrize(
    ("original", "strength", "steps"), [(20, 1.0, 4), (None, 0.5, 3), (100, 0.6, 7), (50, 1.0, 50)]
)
@pytest.mark.parametrize("name", ["LCM", "TCD"])
def test_the_table_of_a_distilled_model(name, original, strength, steps):
    a, b = theirs(name, SD), ours(name, SD)
    for scheduler in (a, b):
        scheduler.set_timesteps(steps, original_inference_steps=original, strength=strength)
    assert a.timesteps.tolist() == b.timesteps.tolist()


def test_arguments_of_distilled_models_are_checked():
    lcm, ddim = ours("LCM", SD), ours("DDIM", SD)
    for given, words in (
        ({"original_inference_steps": 2000}, "original_inference_steps=2000"),
        ({"original_inference_steps": 2}, "original_inference_steps=2"),
        ({"original_inference_steps": 2.5}, "original_inference_steps=2.5"),
        ({"strength": 1.5}, "strength=1.5"),
        ({"strength": 0.02}, "strength 0.02"),
    ):
        with pytest.raises(ValueError, match=words):
            lcm.set_timesteps(4, **given)
    with pytest.raises(ValueError, match="original_inference_steps=50 is for distilled"):
        ddim.set_timesteps(4, original_inference_steps=50)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_training_loop_reads_the_levels_of_a_flow(shift):
    """diffusers' training scripts draw indices into ``timesteps`` and read ``sigmas`` there, before
    any run."""
    a, b = (make("FlowMatchEulerDiscrete", {"shift": shift}) for make in (theirs, ours))
    assert torch.allclose(a.timesteps, b.timesteps, atol=1e-3) and torch.allclose(
        a.sigmas, b.sigmas, atol=1e-6
    )
    x, z, t = noise(1), noise(2), b.timesteps[[10, 700]]
    assert torch.allclose(
        a.scale_noise(x, a.timesteps[[10, 700]], z), b.scale_noise(x, t, z), atol=1e-5
    )


def test_a_training_loop_reads_the_levels_of_a_table():
    a, b = theirs("EulerDiscrete", SD), ours("EulerDiscrete", SD)
    assert (
        torch.allclose(a.sigmas, b.sigmas, rtol=1e-4)
        and a.timesteps.tolist() == b.timesteps.tolist()
    )


@pytest.mark.parametrize("name", sorted(NOT_SERVED))
def test_inner_state_of_a_class_is_refused_in_words(name):
    scheduler = ours("DPMSolverMultistep", SD)
    assert not hasattr(scheduler, name)
    with pytest.raises(AttributeError, match=f"FewstepScheduler has no {name}: "):
        getattr(scheduler, name)


@pytest.mark.parametrize("name", ["betas", "alphas", "alphas_cumprod", "final_alpha_cumprod"])
def test_a_flow_has_no_table(name):
    with pytest.raises(AttributeError, match=f"no {name}: its path has no table"):
        getattr(ours("FlowMatchEulerDiscrete", {}), name)


def test_config_keys_that_pipelines_read_and_write():
    """``steps_offset`` and ``clip_sample`` are replaced by old pipelines' constructors, and the
    replaced value holds."""
    scheduler: Any = ours("DDIM", {**SD, "steps_offset": 0, "clip_sample": True})
    assert scheduler.config.steps_offset == 0 and scheduler.config.clip_sample is True
    assert (
        scheduler.config.get("prediction_type") == "epsilon"
        and scheduler.config.num_train_timesteps == 1000
    )
    scheduler.register_to_config(clip_sample=False, steps_offset=1)
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [751, 501, 251, 1] and scheduler.plan == _plan(
        ours("DDIM", {**SD, "clip_sample": False}), 1
    )
    with pytest.raises(AttributeError, match="nonsense"):
        scheduler.nonsense  # noqa: B018
    assert isinstance(scheduler, diffusers.SchedulerMixin)


def _plan(scheduler: Any, offset: int) -> Any:
    scheduler.register_to_config(steps_offset=offset)
    scheduler.set_timesteps(4)
    return scheduler.plan

"""What scripts change on a scheduler by hand is taken over where it has a meaning, and refused
where no step would read it."""

from __future__ import annotations

import copy

import diffusers
import pytest
import torch
from torch import Tensor

from fewstep import FewstepScheduler
from fewstep.checks import ArgumentError, ConfigError

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}

ZERO_SNR = {
    "rescale_betas_zero_snr": True,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
}


def noise() -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def drawn(scheduler: FewstepScheduler) -> Tensor:
    x = noise()
    for t in scheduler.timesteps:
        x = scheduler.step(torch.sin(1.3 * x + 0.001 * float(t)), t, x).prev_sample
    return x


def made(name: str = "DDIM", **config: object) -> FewstepScheduler:
    return FewstepScheduler.from_config(getattr(diffusers, f"{name}Scheduler")(**SD, **config))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_value_set_on_the_config_holds_as_in_diffusers(when):
    """``scheduler.config.clip_sample = False``: StableCascadePriorPipeline sets it between
    set_timesteps and the first step."""
    a, b = made(), made(clip_sample=False)
    b.set_timesteps(5)
    if when == "after":
        a.set_timesteps(5)
    a.config.clip_sample = False
    if when == "before":
        a.set_timesteps(5)
    clipped = made()
    clipped.set_timesteps(5)
    assert torch.equal(drawn(a), drawn(b))
    assert not torch.equal(drawn(b), drawn(clipped))
    assert a.config["clip_sample"] is False and "clip_sample" not in a.config["_use_default_values"]


@pytest.mark.parametrize("shape", ["object", "config"])
def test_from_config_reads_values_set_on_another_schedulers_config(shape, tmp_path):
    """huggingface/diffusers#7214: ``pipe.scheduler.config.x = y`` and from_config after it."""
    diffusers.DDIMScheduler(**SD).save_pretrained(tmp_path)
    theirs = diffusers.DDIMScheduler.from_pretrained(tmp_path)
    theirs.config.prediction_type = "v_prediction"
    found = FewstepScheduler.from_config(
        theirs if shape == "object" else theirs.config, sampler="unipc"
    )
    assert found.config.prediction_type == "v_prediction"


@pytest.mark.parametrize(
    ("key", "value"), [("prediction_type", "noise"), ("foo", 1), ("beta_start", -1.0)]
)
def test_nonsense_set_on_the_config_is_refused(key, value):
    scheduler = made()
    setattr(scheduler.config, key, value)
    with pytest.raises(ConfigError, match=key):
        scheduler.set_timesteps(5)


def test_a_config_value_that_moves_the_times_of_a_run_is_refused_until_set_timesteps():
    scheduler = made()
    scheduler.set_timesteps(5)
    scheduler.config.timestep_spacing = "trailing"
    with pytest.raises(ArgumentError, match="timesteps"):
        drawn(scheduler)
    scheduler.set_timesteps(5)
    assert scheduler.timesteps[0] == 999 and torch.isfinite(drawn(scheduler)).all()


@pytest.mark.parametrize("name", ["EulerDiscrete", "UniPCMultistep", "DPMSolverMultistep"])
@pytest.mark.parametrize("mode", [False, True], ids=["grad", "inference"])
def test_other_numbers_in_the_lists_are_refused(name, mode):
    """huggingface/diffusers#7904: ``pipe.scheduler.sigmas = pipe.scheduler.sigmas * 4``."""
    with torch.inference_mode(mode):
        for key in ("sigmas", "timesteps"):
            for in_place in (False, True):
                scheduler = made(name)
                scheduler.set_timesteps(5)
                tensor = getattr(scheduler, key)
                if in_place:
                    tensor[1] = 0.5 * tensor[1]
                else:
                    setattr(scheduler, key, tensor / 2)
                with pytest.raises(
                    ArgumentError, match=f"scheduler.{key} .*set_timesteps\\({key}="
                ):
                    drawn(scheduler)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {
            "rescale_betas_zero_snr": True,
            "prediction_type": "v_prediction",
            "timestep_spacing": "trailing",
        },
    ],
)
def test_lists_that_were_cast_copied_or_cut_are_followed(config):
    plain = made("EulerDiscrete", **config)
    plain.set_timesteps(5)
    right = drawn(plain)
    for change in (
        lambda x: x.clone(),
        lambda x: x.double(),
        lambda x: x.bfloat16(),
        copy.deepcopy,
    ):
        scheduler = made("EulerDiscrete", **config)
        scheduler.set_timesteps(5)
        scheduler.sigmas = change(scheduler.sigmas)
        drawn(scheduler)
    for change in (lambda x: x.clone(), lambda x: x.double(), lambda x: x.long()):
        scheduler = made("EulerDiscrete", **config)
        scheduler.set_timesteps(5)
        scheduler.timesteps = change(scheduler.timesteps)
        assert torch.allclose(drawn(scheduler), right, atol=5e-3)


def test_the_end_of_the_list_of_times_begins_there():
    scheduler, by_index = made("DPMSolverMultistep"), made("DPMSolverMultistep")
    for each in (scheduler, by_index):
        each.set_timesteps(6)
    scheduler.timesteps = scheduler.timesteps[2:]
    by_index.set_begin_index(2)
    x = noise()
    for t in by_index.timesteps[2:]:
        x = by_index.step(torch.sin(1.3 * x + 0.001 * float(t)), t, x).prev_sample
    assert torch.equal(drawn(scheduler), x)


def test_a_table_may_be_moved_or_cast_but_not_changed():
    """Training scripts write ``noise_scheduler.alphas_cumprod =
    noise_scheduler.alphas_cumprod.to(device)``."""
    scheduler = made("DDPM")
    before = scheduler.add_noise(noise(), noise(), torch.tensor([3, 700]))
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.betas = scheduler.betas.half()
    scheduler.alphas = scheduler.alphas.clone()
    assert torch.equal(scheduler.add_noise(noise(), noise(), torch.tensor([3, 700])), before)
    for key in ("alphas_cumprod", "alphas", "betas"):
        with pytest.raises(ArgumentError, match=key):
            setattr(scheduler, key, 0.5 * getattr(scheduler, key))
        with pytest.raises(ArgumentError, match=key):
            setattr(scheduler, key, getattr(scheduler, key)[:-1])


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ArgumentError, match="nowhere"):
        made().set_timesteps(5, device="nowhere")


@pytest.mark.parametrize("shape", [(3, 3, 4, 4), (2, 3, 4, 5), (1, 2, 3, 4, 4)])
def test_noise_of_another_shape_is_refused(shape):
    scheduler, times = made("DDPM"), torch.tensor([3, 700])
    for call in (scheduler.add_noise, scheduler.get_velocity):
        with pytest.raises(ArgumentError, match=f"{shape[0]}, {shape[1]}"):
            call(noise(), torch.zeros(shape), times)
        assert call(noise(), torch.zeros(1, 3, 4, 4), times).shape == (2, 3, 4, 4)

"""Runs of the whole training table before ``set_timesteps``, and tables of another length than
``num_train_timesteps``."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from diffusers_loops import distance, network, noise, ours, theirs

from fewstep.checks import FewstepError
from fewstep.interop.diffusers.config import STYLES
from fewstep.interop.diffusers.surface import WHOLE
from fewstep.plans.instructions import PlanError

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning:diffusers",
    "ignore::UserWarning:diffusers",
    "ignore:__array_wrap__:DeprecationWarning",
)
#: classes whose state is ``x0 + sigma eps``
UNSCALED = ("Euler", "Heun", "KDPM2", "LMS", "EDM")
SHORT = {"num_train_timesteps": 60}


def walk(scheduler: Any, x: torch.Tensor, calls: int) -> torch.Tensor:
    """The input of the network after ``calls`` steps from the top, without ``set_timesteps``."""
    drawn = (
        {"generator": torch.Generator().manual_seed(3)}
        if "generator" in inspect.signature(scheduler.step).parameters
        else {}
    )
    for k in range(calls + 1):
        t = scheduler.timesteps[k]
        x_in = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        if k < calls:
            x = scheduler.step(network(x_in, float(t)), t, x, **drawn).prev_sample
    return x_in


@pytest.mark.parametrize(
    "name", [n.removesuffix("Scheduler") for n in WHOLE if n != "IPNDMScheduler"]
)
def test_a_step_before_set_timesteps_is_one_of_the_whole_table(name):
    """As there. (IPNDM's first step is another: test_diffusers_deviations.)"""
    a, b = theirs(name, SHORT), ours(name, SHORT)
    x = noise() * float(getattr(a, "init_noise_sigma", 1.0))
    start = a.scale_model_input(x, a.timesteps[0]) if name.startswith(UNSCALED) else x
    assert distance(walk(b, start, 4), walk(a, x, 4)) < 2e-4
    assert b.num_inference_steps == 60 and float(b.timesteps[0]) == pytest.approx(
        float(a.timesteps[0]), rel=1e-5
    )


@pytest.mark.parametrize("name", [n for n in STYLES if n not in WHOLE])
def test_the_other_classes_say_that_no_run_is_set_up(name):
    scheduler = ours(name.removesuffix("Scheduler"), {})
    with pytest.raises(PlanError, match="set_timesteps"):
        scheduler.step(noise(), scheduler.timesteps[0], noise())


def test_a_sampler_of_ones_own_has_no_run_of_the_whole_table():
    scheduler = ours("EulerDiscrete", {}, sampler="unipc")
    with pytest.raises(PlanError, match="set_timesteps"):
        scheduler.step(noise(), scheduler.timesteps[0], noise())


@pytest.mark.parametrize(
    "name",
    [
        "DDPM",
        "DPMSolverMultistep",
        "DEISMultistep",
        "EulerDiscrete",
        "HeunDiscrete",
        "LMSDiscrete",
        "TCD",
    ],
)
@pytest.mark.parametrize("entries", [30, 1500])
def test_trained_betas_may_have_another_length(name, entries, tmp_path):
    """The times follow num_train_timesteps, as there; those beyond the table are refused when the
    run is set up."""
    config = {"trained_betas": np.linspace(1e-4, 4e-3, entries)}
    a, b = theirs(name, config), ours(name, config)
    assert torch.allclose(a.betas, b.betas, rtol=1e-4)
    b.save_pretrained(tmp_path)
    assert torch.equal(type(b).from_pretrained(tmp_path).betas, b.betas)
    if entries < 1000:
        with pytest.raises(FewstepError, match="beyond"):
            b.set_timesteps(10)
        return
    for scheduler in (a, b):
        scheduler.set_timesteps(10)
    assert a.timesteps.tolist() == pytest.approx(b.timesteps.tolist())


def test_tcd_clips_nothing():
    """It has the keys of LCM, clip_sample among them, and as in diffusers no use for them."""
    found = []
    for config in ({}, {"clip_sample": True}, {"thresholding": True}):
        scheduler = ours("TCD", config, noise_seed=0)
        scheduler.set_timesteps(4)
        found.append(scheduler.step(3.0 * noise(7), scheduler.timesteps[0], noise()).prev_sample)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])

"""The scheduler surface: configs read, changed and written back, and lists of times."""

from __future__ import annotations

import json

import pytest
import torch

pytest.importorskip("diffusers")

import diffusers
from diffusers.configuration_utils import FrozenDict
from diffusers_loops import SD, noise, ours, sample

import fewstep
from fewstep import FewstepScheduler
from fewstep.interop.diffusers.config import STYLES, ConfigError
from fewstep.samplers import get, names

#: samplers that read one prediction; for the others see ``test_diffusers_guided``
PLAIN = [n for n in names("plan") if not get(n).guided]

#: diffusers hands numpy functions a torch tensor
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
SD_PNDM = {
    "skip_prk_steps": True,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
    **SD,
}
FLOW = ("FlowMatchEulerDiscrete", {"shift": 3.0})


@pytest.mark.parametrize("origin", sorted(STYLES))
def test_every_class_is_read_by_its_own_defaults_and_written_back(origin, tmp_path):
    config = getattr(diffusers, origin)().config
    given = FewstepScheduler.from_config({"_class_name": origin})
    inferred = FewstepScheduler.from_config(config, origin=origin)
    assert given.config == inferred.config and given.config["origin"] == origin
    assert all(
        given.config[k] == v or v is None for k, v in config.items() if not k.startswith("_")
    )
    given.save_pretrained(tmp_path)
    assert (
        json.loads((tmp_path / "scheduler_config.json").read_text())["_class_name"]
        == "FewstepScheduler"
    )
    again = FewstepScheduler.from_pretrained(tmp_path)
    assert again.config["origin"] == origin and again._settings == given._settings
    back = getattr(diffusers, origin).from_config(dict(given.config))
    assert all(back.config[k] == v for k, v in config.items() if not k.startswith("_"))


def test_a_config_without_a_class_is_known_by_its_keys():
    assert (
        FewstepScheduler.from_config(diffusers.DDIMScheduler().config).config["origin"]
        == "DDIMScheduler"
    )
    shared = diffusers.KDPM2DiscreteScheduler().config
    with pytest.raises(ConfigError, match="origin="):
        FewstepScheduler.from_config(shared)
    assert (
        FewstepScheduler.from_config(shared, sampler="unipc").config["origin"]
        == "KDPM2DiscreteScheduler"
    )


def test_sampler_order_and_options_come_by_keyword_and_stay():
    s = ours("PNDM", SD_PNDM, sampler="unipc", solver_order=3, corrector=False)
    s.set_timesteps(8)
    assert s.plan == fewstep.plan(
        "unipc", s._settings.schedule, grid=s._compiled.grid, order=3, corrector=False
    )
    other = FewstepScheduler.from_config(s.config, sampler="euler_ancestral", eta=0.5)
    assert (
        other.config["sampler_options"] == {"eta": 0.5} and other.config["skip_prk_steps"] is True
    )
    karras = ours("PNDM", SD_PNDM, sampler="DPM++ 2M Karras")
    karras.set_timesteps(5)
    # the alias names sampler and levels
    levels = ours("DPMSolverMultistep", {**SD, "use_karras_sigmas": True})
    levels.set_timesteps(5)
    assert torch.allclose(karras.sigmas[:-1], levels.sigmas[:-1])


def test_the_order_is_calls_a_step_where_that_is_one_number():
    one, two = ("unipc", "dpmpp_2m", "euler", "ddim", "plms", "pndm"), ("heun", "dpm2", "dpmpp_sde")
    assert {ours("DDIM", {}, sampler=name).order for name in one} == {1}
    assert {ours("DDIM", {}, sampler=name).order for name in two} == {2}
    s = ours("DDIM", {}, sampler="pndm")
    s.set_timesteps(29)
    assert s.nfe == len(s.timesteps) == 29 and s.plan.steps == 20


def test_a_named_grid_replaces_the_spacing():
    s = ours("DDIM", {}, sampler="unipc", grid="ays")
    s.set_timesteps(7)
    assert s._compiled.grid == fewstep.grid("ays", s._settings.schedule, 7)


def test_importing_fewstep_finds_both_names_late():
    assert (
        fewstep.FewstepScheduler.__module__ == "fewstep"
        and fewstep.SchedulerMixin is diffusers.SchedulerMixin
    )
    assert "FewstepScheduler" not in fewstep.__all__
    assert diffusers.DDIMScheduler in ours("DDIM", {}).compatibles


def test_a_learned_variance_is_left_aside():
    s = ours("DDPM", {"variance_type": "learned_range", "clip_sample": False}, sampler="dpmpp_2m")
    s.set_timesteps(3)
    x, mean = noise(), noise(3)
    both = s.step(torch.cat([mean, noise(4)], 1), s.timesteps[0], x).prev_sample
    s.set_timesteps(3)
    assert torch.equal(both, s.step(mean, s.timesteps[0], x).prev_sample)


def test_a_pipeline_may_replace_the_config():
    """Stable Diffusion pipelines write steps_offset=1 into the config that they are given."""
    s = ours("DDIM", {"clip_sample": False, "steps_offset": 0})
    s._internal_dict = FrozenDict({**s.config, "steps_offset": 1})
    s.set_timesteps(4)
    assert s.timesteps.tolist() == [751, 501, 251, 1]


@pytest.mark.parametrize("sampler", PLAIN)
@pytest.mark.parametrize("path", ["DDIM", "FlowMatchEulerDiscrete"])
def test_every_sampler_takes_times_and_sigmas_of_the_caller(sampler, path):
    config = {"clip_sample": False, **SD} if path == "DDIM" else FLOW[1]
    s = ours(path, config, sampler=sampler)
    levels = [12.0, 4.0, 1.0, 0.2, 0.0] if path == "DDIM" else [1.0, 0.7, 0.4, 0.1]
    for given in ({"timesteps": [900, 600, 300, 100]}, {"sigmas": levels}):
        s.set_timesteps(**given)
        assert len(s.timesteps) == s.nfe == s.plan.nfe and s.plan.steps >= 4
        x, calls = sample(s, None, **given)
        y, _ = sample(s, None, **given)
        assert calls == s.nfe and torch.isfinite(x).all() and torch.equal(x, y)

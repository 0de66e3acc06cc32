"""``FewstepScheduler.from_config(config, sampler="file:PATH")``."""

from __future__ import annotations

import pytest
import torch

import fewstep
from fewstep import FewstepScheduler
from fewstep.checks import FewstepError
from fewstep.engine import Tuned
from fewstep.engine.provenance import made_for
from fewstep.models import GaussianMixture
from fewstep.schedules.config import from_config

CONFIG = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "num_train_timesteps": 1000,
    "clip_sample": False,
}


@pytest.fixture
def tuned(tmp_path):
    one = torch.ones(1, dtype=torch.float64)
    den = GaussianMixture(torch.ones(1, 4, dtype=torch.float64), one, one, from_config(CONFIG))
    made = Tuned(fewstep.plan("unipc", den, nfe=6), made_for(den))
    made.save(tmp_path / "6.json")
    return den, made, f"file:{tmp_path / '6.json'}"


def drawn(scheduler, den, x):
    for t in scheduler.timesteps:
        x = scheduler.step(den(x, float(t)), t, x).prev_sample
    return x


def test_a_pipeline_steps_through_the_plan(tuned):
    den, made, name = tuned
    scheduler = FewstepScheduler.from_config(CONFIG, sampler=name)
    scheduler.set_timesteps(6)
    assert scheduler.plan == made.plan
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = fewstep.sample(den, plan=made, x=x)
    # the published times are float32
    assert torch.allclose(drawn(scheduler, den, x), wanted, rtol=1e-5, atol=1e-5)
    again = FewstepScheduler.from_config(scheduler.config)
    again.set_timesteps(6)
    assert again.plan == made.plan


def test_what_the_plan_is_not_for_is_refused(tuned):
    _, _, name = tuned
    scheduler = FewstepScheduler.from_config(CONFIG, sampler=name)
    with pytest.raises(FewstepError, match="a plan of 6 steps"):
        scheduler.set_timesteps(7)
    with pytest.raises(FewstepError, match="has its own times"):
        scheduler.set_timesteps(sigmas=[3.0, 1.0, 0.0])
    with pytest.raises(FewstepError, match="grid='karras' cannot be used"):
        FewstepScheduler.from_config(CONFIG, sampler=name, grid="karras")
    other = {**CONFIG, "beta_end": 0.03}
    with pytest.raises(FewstepError, match="tuned for another schedule"):
        FewstepScheduler.from_config(other, sampler=name)
    forced = FewstepScheduler.from_config(other, sampler=name, force=True)
    forced.set_timesteps(6)
    assert forced.nfe == 6

"""Every sampler of the registry in a table's pipeline and in a flow's: it runs, is finite, counts
its calls, and repeats its bits."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers_loops import SD, ours
from diffusers_pipelines import CALLS, EMBEDS, POOLED_SD3, ddpm, run, sd3

from fewstep.interop.diffusers.config import ConfigError
from fewstep.samplers import get, names

#: samplers that read one prediction; for the others see ``test_diffusers_guided``
PLAIN = [n for n in names("plan") if not get(n).guided]

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array_wrap__:DeprecationWarning",
    # of tokenizers' and sentencepiece's compiled types
    "ignore::DeprecationWarning:importlib._bootstrap",
)
TABLE = ("DDIM", {"clip_sample": False, "steps_offset": 1, **SD})
FLOW = ("FlowMatchEulerDiscrete", {"shift": 3.0})
DRIVERS = {"adaptive_sde", "dmcmc", "dpm_adaptive", "ode45", "ode853", "pc", "picard", "sada"}
DRIVERS |= {"dpm_solver_v3_elementwise"}
CALLS_GIVEN = 6
FLOWING = pytest.param(
    "sd3",
    marks=pytest.mark.skipif(
        importlib.util.find_spec("transformers") is None, reason="needs transformers"
    ),
)


@cache
def pipeline(kind: str) -> Any:
    """A tiny pipeline whose scheduler is put in later."""
    return sd3(ours(*FLOW)) if kind == "sd3" else ddpm(ours(*TABLE))


def draw(kind: str, scheduler: Any) -> tuple[torch.Tensor, int]:
    pipe = pipeline(kind)
    pipe.scheduler = scheduler
    if kind == "ddpm":
        return run(pipe, CALLS_GIVEN)
    embeds = {
        "prompt_embeds": EMBEDS["prompt_embeds"],
        "pooled_prompt_embeds": POOLED_SD3["pooled_prompt_embeds"],
    }
    return run(
        pipe, CALLS_GIVEN, output="latent", guidance_scale=0.0, height=16, width=16, **embeds
    )


def test_the_registry_is_what_is_tested_here():
    assert set(names()) - set(names("plan")) == DRIVERS and len(names("plan")) >= 66


@pytest.mark.parametrize("kind", ["ddpm", FLOWING])
@pytest.mark.parametrize("sampler", PLAIN)
def test_it_runs_counts_its_calls_and_repeats_its_bits(kind, sampler):
    scheduler = ours(*(FLOW if kind == "sd3" else TABLE), sampler=sampler, noise_seed=0)
    a, calls = draw(kind, scheduler)
    assert calls == scheduler.nfe == len(scheduler.timesteps) == scheduler.plan.nfe >= 1
    assert torch.isfinite(a).all()
    b, _ = draw(kind, scheduler)
    assert torch.equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [p for p in CALLS if p not in ("ddpm", "sd3")])
@pytest.mark.parametrize("sampler", PLAIN)
def test_it_runs_in_every_other_pipeline(kind, sampler):
    if kind != "dit":
        pytest.importorskip("transformers")
    from diffusers_pipelines import FLOWS
    from diffusers_pipelines import draw as draw_whole

    scheduler = ours(*(FLOW if kind in FLOWS else TABLE), sampler=sampler, noise_seed=0)
    a, calls = draw_whole(kind, scheduler, 5)
    assert calls == scheduler.nfe and torch.isfinite(a).all()


@pytest.mark.parametrize("sampler", sorted(DRIVERS))
@pytest.mark.parametrize("path", [TABLE, FLOW], ids=["table", "flow"])
def test_a_driver_is_refused_and_says_why(sampler, path):
    with pytest.raises(
        ConfigError, match=f"sampler='{sampler}' chooses its network calls as it goes"
    ):
        ours(*path, sampler=sampler)

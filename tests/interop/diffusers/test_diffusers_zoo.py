"""Whole pipelines with the scheduler replaced: each draws what its own scheduler draws, or is
refused before its network is called.

How the pipelines are made: tests/interop/diffusers/diffusers_zoo.py. What of them is served, in
words: docs/diffusers.md.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import diffusers
from diffusers_loops import SD, ours, theirs
from diffusers_pipelines import EMBEDS
from diffusers_zoo import (
    EQUAL,
    EULER,
    IF_DDPM,
    OWN_ONLY,
    POOLED,
    SMALL,
    Case,
    deep_floyd,
    drawn,
    network_of,
    sdxl,
    stable,
)

from fewstep import FewstepScheduler
from fewstep.interop.diffusers.config import ConfigError

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::FutureWarning:diffusers",
        "ignore:__array_wrap__:DeprecationWarning",
        # of tokenizers' and sentencepiece's compiled types
        "ignore::DeprecationWarning:importlib._bootstrap",
        "ignore:`clean_caption:UserWarning",
    ),
]
#: pipelines whose networks or decoders take seconds to make
SLOW = (
    "Kandinsky3Pipeline",
    "HiDreamImagePipeline",
    "StableCascadePriorPipeline",
    "AuraFlowPipeline",
)


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def named(cases: dict[str, Case]) -> list[Any]:
    return [
        pytest.param(case, id=name, marks=pytest.mark.slow if name in SLOW else ())
        for name, case in cases.items()
    ]


@pytest.mark.parametrize("case", named(EQUAL))
def test_a_pipeline_draws_what_its_own_scheduler_draws(case):
    """Plainly and under ``torch.inference_mode()``."""
    (a, calls), (b, mine), (c, inferred) = drawn(
        case, theirs(*case.own), ours(*case.own), ours(*case.own), inferred=1
    )
    assert inferred == mine == calls > 0 and gap(b, a) < 2e-5 and gap(c, a) < 2e-5


@pytest.mark.parametrize("case", named(OWN_ONLY))
def test_a_pipeline_that_needs_its_own_scheduler_is_refused_before_its_network_is_called(case):
    pipe = case.make(ours(*case.own))
    pipe.set_progress_bar_config(disable=True)
    seen: list[int] = []
    network_of(pipe).register_forward_pre_hook(lambda *_: seen.append(1))
    with pytest.raises(ConfigError, match=type(pipe).__name__):
        pipe(num_inference_steps=4, output_type="latent", **case.call())
    assert not seen


def test_subclasses_of_a_refused_pipeline_are_refused_and_other_callers_are_not():
    scheduler = FewstepScheduler.from_config({"_class_name": "EulerDiscreteScheduler", **SD})

    class CosmosTextToWorldPipeline(diffusers.DiffusionPipeline):
        def __call__(self) -> None:
            scheduler.set_timesteps(4)

    class Mine(CosmosTextToWorldPipeline):
        pass

    class Other(diffusers.DiffusionPipeline):
        __call__ = CosmosTextToWorldPipeline.__call__

    with pytest.raises(ConfigError, match="CosmosTextToWorldPipeline"):
        Mine()()
    Other()()
    assert len(scheduler.timesteps) == 4


def test_deep_floyd_with_its_learned_variance():
    """A variance that the network predicts is no number of a plan: refused. With a named sampler
    the six channels are cut to three."""
    with pytest.raises(ConfigError, match="learned_range"):
        ours(*IF_DDPM)
    case = Case(deep_floyd, IF_DDPM, lambda: {**EMBEDS, **SMALL})
    name, config = IF_DDPM
    fixed = theirs(name, {**config, "variance_type": "fixed_small"})
    (a, calls), (b, mine) = drawn(case, fixed, ours(name, config, sampler="ddpm"))
    assert mine == calls and gap(b, a) < 2e-5


@pytest.mark.parametrize("name", ["EulerDiscrete", "DPMSolverMultistep", "DDIM"])
def test_a_refiner_goes_on_from_the_base_model(name):
    """SDXL's two halves: the first gives its latents on in the middle of the run (denoising_end),
    the second goes on (denoising_start)."""
    config = {"timestep_spacing": "leading", "steps_offset": 1, **SD}
    if name == "DDIM":
        config["clip_sample"] = False

    def halves(make: Any) -> torch.Tensor:
        first = Case(
            sdxl("StableDiffusionXLPipeline"),
            (name, config),
            lambda: {**EMBEDS, **POOLED, **SMALL, "denoising_end": 0.5},
            8,
        )
        middle, n = drawn(first, make(name, config))[0]
        call = {**EMBEDS, **POOLED, "image": middle, "denoising_start": 0.5}
        second = Case(sdxl("StableDiffusionXLImg2ImgPipeline"), (name, config), lambda: call, 8)
        end, m = drawn(second, make(name, config))[0]
        assert n + m == 8
        return end

    assert gap(halves(ours), halves(theirs)) < 2e-5


def test_ltx_tells_each_token_its_own_time():
    """A condition at full strength is kept clean; a sampler other than flow Euler has no step for
    it."""
    case = EQUAL["LTXConditionPipeline"]
    name, config = case.own
    with pytest.raises(ValueError, match="per_token_timesteps"):
        drawn(case, ours(name, config, sampler="unipc"))


def test_a_scheduler_that_one_pipeline_refused_serves_another():
    case = OWN_ONLY["StableDiffusionLatentUpscalePipeline"]
    scheduler = ours(*EULER)
    with pytest.raises(ConfigError):
        drawn(case, scheduler)
    plain = Case(stable("StableDiffusionPipeline"), EULER, lambda: {**EMBEDS, **SMALL})
    (a, _), (b, _) = drawn(plain, theirs(*EULER), scheduler)
    assert gap(b, a) < 2e-5

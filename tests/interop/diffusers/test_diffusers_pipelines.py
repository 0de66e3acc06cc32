"""Real pipelines, small and with random weights: the same latents as diffusers' own schedulers,
NFE, bits, and a saved pipeline.

Pipelines that import transformers are skipped where it is not installed; DDPM and DiT run anyway.
"""

from __future__ import annotations

import copy
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers_loops import SD, ours, theirs
from diffusers_pipelines import (
    CALLS,
    EMBEDS,
    FLOWS,
    control_net,
    ddpm,
    draw,
    run,
    sd3,
    sdxl,
    stable_diffusion,
)

from fewstep import FewstepScheduler

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning:diffusers",
    "ignore:__array_wrap__:DeprecationWarning",
    # of tokenizers' and sentencepiece's compiled types
    "ignore::DeprecationWarning:importlib._bootstrap",
)
TRANSFORMERS = importlib.util.find_spec("transformers") is not None
FREE = ("ddpm", "dit")
PIPELINES = [
    pytest.param(
        n,
        marks=()
        if n in FREE
        else pytest.mark.skipif(not TRANSFORMERS, reason="needs transformers"),
    )
    for n in CALLS
]
needs_transformers = pytest.mark.skipif(not TRANSFORMERS, reason="needs transformers")
DDIM = {"clip_sample": False, "steps_offset": 1, "set_alpha_to_one": False, **SD}
SD_PNDM = {"skip_prk_steps": True, "steps_offset": 1, "set_alpha_to_one": False, **SD}
TABLES = [
    ("DDIM", DDIM),
    ("DDPM", {"clip_sample": False}),
    ("DPMSolverMultistep", SD),
    ("DPMSolverSinglestep", {"lower_order_final": True, **SD}),
    ("DEISMultistep", SD),
    ("UniPCMultistep", {"solver_order": 3, **SD}),
    ("HeunDiscrete", SD),
    ("EulerDiscrete", {"timestep_spacing": "leading", "steps_offset": 1, **SD}),
    ("EulerAncestralDiscrete", SD),
    ("KDPM2Discrete", SD),
    ("LMSDiscrete", SD),
]
FLOW_CASES = [
    ("FlowMatchEulerDiscrete", {"shift": 3.0}),
    ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True}),
]


def default(pipeline: str) -> tuple[str, dict[str, Any]]:
    if pipeline in FLOWS:
        return FLOW_CASES[FLOWS.index(pipeline)]
    return TABLES[0]


def image(seed: int = 3) -> torch.Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def right_half() -> torch.Tensor:
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 8:] = 1.0
    return mask


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_pipeline_draws_what_it_drew(pipeline):
    name, config = default(pipeline)
    for steps in (1, 5):
        a, calls = draw(pipeline, theirs(name, config), steps)
        b, mine = draw(pipeline, ours(name, config), steps)
        assert mine == calls and float((a - b).abs().max()) < 2e-5


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_nfe_is_counted_and_the_same_seed_gives_the_same_bits(pipeline):
    name, config = default(pipeline)
    for sampler in ("unipc", "heun", "euler_ancestral"):
        # DiT, SD3 and Flux hand the scheduler no generator
        scheduler = ours(name, config, sampler=sampler, noise_seed=0)
        a, calls = draw(pipeline, scheduler, 3)
        b, _ = draw(pipeline, scheduler, 3)
        c, _ = draw(pipeline, scheduler, 3, seed=1)
        assert (
            calls == scheduler.nfe
            and torch.isfinite(a).all()
            and torch.equal(a, b)
            and not torch.equal(a, c)
        )


@needs_transformers
@pytest.mark.parametrize(
    "case", [c for c in TABLES if c[0] not in ("LMSDiscrete", "KDPM2Discrete")], ids=lambda c: c[0]
)
def test_image_to_image_and_inpainting(case):
    name, config = case
    change = {"image": image(), "strength": 0.6}
    paint = {"image": image(), "mask_image": right_half(), "height": 16, "width": 16}
    for kind, more in (
        ("Img2Img", change),
        ("Inpaint", {**paint, "strength": 1.0}),
        ("Inpaint", {**paint, "strength": 0.7}),
    ):
        pipes = [
            stable_diffusion(make(name, config), f"StableDiffusion{kind}Pipeline")
            for make in (theirs, ours)
        ]
        (a, calls), (b, mine) = (run(pipe, 5, **EMBEDS, **more) for pipe in pipes)
        assert mine == calls and float((a - b).abs().max()) < 1e-5, (kind, more["strength"])


@needs_transformers
@pytest.mark.parametrize("name", ["KDPM2Discrete", "LMSDiscrete"])
def test_where_theirs_deviates_in_the_middle(name):
    """KDPM2: their add_noise takes the level of the step's end where the mask is blended in at its
    midpoint; given the midpoint's level it is ours. LMS from the middle: test_diffusers_deviations;
    from the start it inpaints alike."""
    paint = {"image": image(), "mask_image": right_half(), "height": 16, "width": 16}

    def painted(scheduler: Any, strength: float) -> torch.Tensor:
        return run(
            stable_diffusion(scheduler, "StableDiffusionInpaintPipeline"),
            5,
            **EMBEDS,
            **paint,
            strength=strength,
        )[0]

    def corrected(scheduler: Any) -> Any:
        def add(x: torch.Tensor, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            k = scheduler.timesteps.tolist().index(float(t.flatten()[0]))
            return x + (scheduler.sigmas_interpol if k % 2 else scheduler.sigmas)[k] * z

        scheduler.add_noise = add
        return scheduler

    other = theirs(name, SD)  # seconds
    for strength in (0.7, 1.0):
        mine = painted(ours(name, SD), strength)
        gap = float((painted(copy.deepcopy(other), strength) - mine).abs().max())
        if name == "LMSDiscrete":
            assert (gap < 1e-5) is (strength == 1.0)
        else:
            assert (
                gap > 0.01
                and float((painted(corrected(copy.deepcopy(other)), strength) - mine).abs().max())
                < 1e-5
            )


@needs_transformers
def test_image_to_image_on_the_scheduler_that_stable_diffusion_ships_with():
    """plms counts calls; in the middle it goes on without its start-up, at every strength."""
    for steps in (5, 8):
        for strength in (0.3, 0.6, 0.9, 1.0):
            pipe = stable_diffusion(ours("PNDM", SD_PNDM), "StableDiffusionImg2ImgPipeline")
            made, calls = run(pipe, steps, **EMBEDS, image=image(), strength=strength)
            assert calls == min(int(steps * strength), steps) and torch.isfinite(made).all()


@needs_transformers
def test_xl_and_sd3_image_to_image():
    pooled = {
        "pooled_prompt_embeds": torch.ones(1, 8),
        "negative_pooled_prompt_embeds": torch.zeros(1, 8),
    }
    for make_pipe, kind, (name, config) in (
        (sdxl, "StableDiffusionXLImg2ImgPipeline", TABLES[2]),
        (sd3, "StableDiffusion3Img2ImgPipeline", FLOW_CASES[0]),
    ):
        pipes = [make_pipe(make(name, config), kind) for make in (theirs, ours)]
        (a, calls), (b, mine) = (
            run(pipe, 5, **EMBEDS, **pooled, image=image(), strength=0.6) for pipe in pipes
        )
        assert mine == calls and float((a - b).abs().max()) < 2e-5, kind


@needs_transformers
def test_control_net():
    for name, config in (TABLES[0], TABLES[5]):
        pipes = [
            stable_diffusion(
                make(name, config), "StableDiffusionControlNetPipeline", controlnet=control_net()
            )
            for make in (theirs, ours)
        ]
        (a, calls), (b, mine) = (run(pipe, 4, **EMBEDS, image=image()) for pipe in pipes)
        assert mine == calls and float((a - b).abs().max()) < 1e-5


@pytest.mark.parametrize("pipeline", [p for p in PIPELINES if p.values[0] in ("dit", "pixart")])
def test_two_conditions_give_different_images(pipeline):
    """Else a conditioning that is not heard would go unnoticed."""
    name, config = default(pipeline)
    key = "class_labels" if pipeline == "dit" else "prompt_embeds"
    other = [7] if pipeline == "dit" else -CALLS[pipeline][1][key]
    a, b = (
        draw(pipeline, ours(name, config, sampler="unipc"), 3, **more)[0]
        for more in ({}, {key: other})
    )
    assert float((a - b).abs().max()) > 1e-4


@needs_transformers
@pytest.mark.parametrize("pipeline", ["sd", "sdxl", "sd3", "flux"])
def test_two_prompts_give_different_images(pipeline):
    """Through tokenizers and text encoders; and one prompt twice the same."""
    from diffusers_texts import TEXTS

    pipe = TEXTS[pipeline]()
    pipe.scheduler = FewstepScheduler.from_config(pipe.scheduler.config, sampler="unipc")
    a, b, c = (
        run(pipe, 3, prompt=words, height=16, width=16)[0]
        for words in ("a blue cat", "two red dogs", "a blue cat")
    )
    assert float((a - b).abs().max()) > 1e-4 and torch.equal(a, c)


@needs_transformers
def test_a_callback_that_changes_the_latents_does_what_it_does_there():
    def damp(pipe: Any, i: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
        return {"latents": 0.9 * values["latents"]} if i == 2 else {}

    for name, config in (TABLES[0], TABLES[2]):
        made = [
            run(
                stable_diffusion(make(name, config)),
                5,
                **EMBEDS,
                height=16,
                width=16,
                callback_on_step_end=damp,
            )[0]
            for make in (theirs, ours)
        ]
        assert float((made[0] - made[1]).abs().max()) < 1e-5


@needs_transformers
def test_times_and_sigmas_through_a_pipeline():
    plain = {**EMBEDS, "height": 16, "width": 16, "output": "latent"}
    times, levels = [900, 600, 200], [12.0, 3.0, 0.5, 0.0]
    for given, (name, config) in (
        ({"timesteps": times}, TABLES[2]),
        ({"sigmas": levels}, TABLES[7]),
    ):
        (a, calls), (b, mine) = (
            run(stable_diffusion(make(name, config)), None, **plain, **given)
            for make in (theirs, ours)
        )
        assert mine == calls == 3 and float((a - b).abs().max() / a.abs().max()) < 1e-5


@needs_transformers
def test_a_list_of_generators_in_a_pipeline():
    """One generator an image: the first of two images is the one drawn alone."""

    def images(seeds: list[int]) -> torch.Tensor:
        pipe = stable_diffusion(ours("EulerAncestralDiscrete", SD))
        pipe.set_progress_bar_config(disable=True)
        embeds = {k: v.expand(len(seeds), -1, -1) for k, v in EMBEDS.items()}
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        made = pipe(
            num_inference_steps=4,
            generator=generators,
            height=16,
            width=16,
            output_type="latent",
            **embeds,
        )
        return torch.as_tensor(made.images)

    assert float((images([3, 4])[:1] - images([3])).abs().max()) < 1e-4


@needs_transformers
def test_callbacks_and_interruption():
    scheduler = ours("DDIM", DDIM, sampler="unipc")
    pipe = stable_diffusion(scheduler)
    seen: list[int] = []

    def watch(pipe: Any, i: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
        seen.append(scheduler.step_index)
        pipe._interrupt = i == 2
        return values

    run(pipe, 6, **EMBEDS, height=16, width=16, callback_on_step_end=watch)
    assert seen[:3] == [1, 2, 3] and scheduler.step_index == 3
    pipe._interrupt = False
    again, calls = run(pipe, 6, **EMBEDS, height=16, width=16)
    fresh, _ = run(
        stable_diffusion(ours("DDIM", DDIM, sampler="unipc")), 6, **EMBEDS, height=16, width=16
    )
    assert calls == 6 and float((again - fresh).abs().max()) < 1e-5


RELOAD = """
import sys, torch, fewstep, diffusers
sys.path.insert(0, sys.argv[2])
from diffusers_pipelines import run
pipe = diffusers.DiffusionPipeline.from_pretrained(sys.argv[1])
assert type(pipe.scheduler) is fewstep.FewstepScheduler and pipe.scheduler.config["sampler"] == "unipc"
torch.save(run(pipe, 5, **eval(sys.argv[4]))[0], sys.argv[3])
"""


def reloaded(pipe: Any, folder: Path, **arguments: Any) -> torch.Tensor:
    """The image of a saved pipeline in a new process."""
    pipe.save_pretrained(folder / "pipe")
    given = [
        str(folder / "pipe"),
        str(Path(__file__).parent),
        str(folder / "image.pt"),
        repr(arguments),
    ]
    done = subprocess.run(
        [sys.executable, "-c", RELOAD, *given], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # its weights lie elsewhere in memory, where convolutions round differently
    return torch.load(folder / "image.pt", weights_only=True)


@needs_transformers
def test_a_saved_stable_diffusion_is_found_again_in_a_new_process(tmp_path):
    """With tokenizer and text encoder, as a user saves one."""
    from diffusers_texts import sd_text

    pipe = sd_text()
    pipe.scheduler = FewstepScheduler.from_config(
        pipe.scheduler.config, sampler="unipc", solver_order=3
    )
    words = {"prompt": "a blue cat", "height": 16, "width": 16}
    a, calls = run(pipe, 5, **words)
    assert calls == 5 and float((reloaded(pipe, tmp_path, **words) - a).abs().max()) < 1e-5


@pytest.mark.slow
def test_a_saved_ddpm_is_found_again_in_a_new_process(tmp_path):
    pipe = ddpm(ours("DDIM", DDIM, sampler="unipc", solver_order=3))
    a, _ = run(pipe, 5)
    assert float((reloaded(pipe, tmp_path) - a).abs().max()) < 1e-5

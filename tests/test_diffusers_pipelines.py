"""Real pipelines, small and with random weights: the same latents as diffusers' own schedulers, NFE, bits, and a saved pipeline.

Pipelines that import transformers are skipped where it is not installed; DDPM and DiT run anyway.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers_loops import SD, ours, theirs
from diffusers_pipelines import CALLS, EMBEDS, FLOWS, control_net, ddpm, draw, run, sd3, sdxl, stable_diffusion

from fewstep.samplers import names

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning:diffusers",
    "ignore:__array_wrap__:DeprecationWarning",
    "ignore::DeprecationWarning:importlib._bootstrap",  # of tokenizers' and sentencepiece's compiled types
)
TRANSFORMERS = importlib.util.find_spec("transformers") is not None
FREE = ("ddpm", "dit")
PIPELINES = [pytest.param(n, marks=() if n in FREE else pytest.mark.skipif(not TRANSFORMERS, reason="needs transformers")) for n in CALLS]
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
FLOW_CASES = [("FlowMatchEulerDiscrete", {"shift": 3.0}), ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True})]


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


@needs_transformers
@pytest.mark.parametrize("case", TABLES, ids=[name for name, _ in TABLES])
def test_every_class_in_stable_diffusion(case):
    name, config = case
    for steps in (1, 6):
        a, calls = draw("sd", theirs(name, config), steps)
        b, mine = draw("sd", ours(name, config), steps)
        assert mine == calls and float((a - b).abs().max()) < 1e-5, steps


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_nfe_is_counted_and_the_same_seed_gives_the_same_bits(pipeline):
    name, config = default(pipeline)
    for sampler in ("unipc", "heun", "euler_ancestral", "dpmpp_3m"):
        scheduler = ours(name, config, sampler=sampler, noise_seed=0)  # DiT, SD3 and Flux hand the scheduler no generator
        a, calls = draw(pipeline, scheduler, 4)
        b, _ = draw(pipeline, scheduler, 4)
        c, _ = draw(pipeline, scheduler, 4, seed=1)
        assert calls == scheduler.nfe and torch.isfinite(a).all() and torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", [p for p in PIPELINES if p.values[0] in ("ddpm", "sd", "sd3")])
@pytest.mark.parametrize("sampler", [n for n in names("plan") if n not in ("mr_ode", "mr_sde", "pfgmpp")])
def test_every_sampler_in_every_pipeline(pipeline, sampler):
    name, config = default(pipeline)
    try:
        scheduler = ours(name, config, sampler=sampler, noise_seed=0)
        scheduler.set_timesteps(12)
    except ValueError as error:
        pytest.skip(f"refused: {error}")
    a, calls = draw(pipeline, scheduler, 12)
    b, _ = draw(pipeline, scheduler, 12)
    assert calls == scheduler.nfe and torch.isfinite(a).all() and torch.equal(a, b)


@needs_transformers
@pytest.mark.parametrize("case", [c for c in TABLES if c[0] not in ("DDPM", "LMSDiscrete", "KDPM2Discrete")], ids=lambda c: c[0])
def test_image_to_image_and_inpainting(case):
    name, config = case
    change = {"image": image(), "strength": 0.6}
    paint = {"image": image(), "mask_image": right_half(), "height": 16, "width": 16}
    for kind, more in (("Img2Img", change), ("Inpaint", {**paint, "strength": 1.0}), ("Inpaint", {**paint, "strength": 0.7})):
        pipes = [stable_diffusion(make(name, config), f"StableDiffusion{kind}Pipeline") for make in (theirs, ours)]
        (a, calls), (b, mine) = (run(pipe, 5, **EMBEDS, **more) for pipe in pipes)
        assert mine == calls and float((a - b).abs().max()) < 1e-5, (kind, more["strength"])


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
    pooled = {"pooled_prompt_embeds": torch.ones(1, 8), "negative_pooled_prompt_embeds": torch.zeros(1, 8)}
    for make_pipe, kind, (name, config) in (
        (sdxl, "StableDiffusionXLImg2ImgPipeline", TABLES[2]),
        (sd3, "StableDiffusion3Img2ImgPipeline", FLOW_CASES[0]),
    ):
        pipes = [make_pipe(make(name, config), kind) for make in (theirs, ours)]
        (a, calls), (b, mine) = (run(pipe, 5, **EMBEDS, **pooled, image=image(), strength=0.6) for pipe in pipes)
        assert mine == calls and float((a - b).abs().max()) < 2e-5, kind


@needs_transformers
def test_control_net():
    for name, config in (TABLES[0], TABLES[5]):
        pipes = [
            stable_diffusion(make(name, config), "StableDiffusionControlNetPipeline", controlnet=control_net()) for make in (theirs, ours)
        ]
        (a, calls), (b, mine) = (run(pipe, 4, **EMBEDS, image=image()) for pipe in pipes)
        assert mine == calls and float((a - b).abs().max()) < 1e-5


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


RELOAD = """
import sys, torch, fewstep, diffusers
sys.path.insert(0, sys.argv[2])
from diffusers_pipelines import EMBEDS, run
pipe = diffusers.DiffusionPipeline.from_pretrained(sys.argv[1], **eval(sys.argv[4]))
assert type(pipe.scheduler) is fewstep.FewstepScheduler and pipe.scheduler.config["sampler"] == "unipc"
torch.save(run(pipe, 5, **(EMBEDS | {"height": 16, "width": 16} if "text_encoder" in pipe.components else {}))[0], sys.argv[3])
"""


@pytest.mark.parametrize("pipeline", ["ddpm", pytest.param("sd", marks=[needs_transformers, pytest.mark.slow])])
def test_a_saved_pipeline_is_found_again_in_a_new_process(pipeline, tmp_path):
    scheduler = ours("DDIM", DDIM, sampler="unipc", solver_order=3)
    pipe = ddpm(scheduler) if pipeline == "ddpm" else stable_diffusion(scheduler)
    pipe.save_pretrained(tmp_path / "pipe")
    a, _ = run(pipe, 5, **({} if pipeline == "ddpm" else {**EMBEDS, "height": 16, "width": 16}))
    names = ("text_encoder", "tokenizer", "feature_extractor", "safety_checker")
    parts = {} if pipeline == "ddpm" else {**dict.fromkeys(names), "requires_safety_checker": False}
    arguments = [str(tmp_path / "pipe"), str(Path(__file__).parent), str(tmp_path / "image.pt"), repr(parts)]
    done = subprocess.run([sys.executable, "-c", RELOAD, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    again = torch.load(tmp_path / "image.pt")  # loaded weights lie elsewhere in memory, and convolutions round differently there
    assert float((again - a).abs().max()) < 1e-5

"""Small pipelines that ``guided`` serves, and the table of docs/diffusers.md that says so.

``PYTHONPATH=... python tests/interop/diffusers/diffusers_guided.py`` writes the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers_loops import SD, ours
from diffusers_pipelines import (
    CALLS,
    EMBEDS,
    POOLED_SD3,
    control_net,
    noise,
    pixart,
    run,
    sd3,
    seeded,
    stable_diffusion,
    vae,
)
from diffusers_zoo import MASKS, PAINT, SMALL, both, built, flux, picture, pixart_alpha, sdxl

from fewstep.guidance import CFG
from fewstep.interop.diffusers import guided
from fewstep.interop.diffusers.layouts import LAYOUTS

PAGE = Path(__file__).parents[3] / "docs" / "diffusers.md"
BEGIN = "<!-- table of tests/interop/diffusers/diffusers_guided.py -->"
END = "<!-- end of the table -->"
W = 4.0
#: the largest relative difference that counts as equal
EQUAL = 1e-5
SAMPLERS = ("ddim", "dpmpp_2m", "unipc", "euler_ancestral")
FLOW = ("FlowMatchEulerDiscrete", {"shift": 3.0})
POOLED = {"pooled_prompt_embeds": noise(1, 8), "negative_pooled_prompt_embeds": noise(1, 8, seed=6)}
FLUX = {
    "prompt_embeds": noise(1, 4, 32),
    "pooled_prompt_embeds": noise(1, 32),
    "negative_prompt_embeds": noise(1, 4, 32, seed=6),
    "negative_pooled_prompt_embeds": noise(1, 32, seed=6),
}
CHANGED = {"image": picture(), "strength": 0.6}
PAINTED = {**PAINT, "strength": 0.7}
PIXART = {"negative_prompt": None, "use_resolution_binning": False, **SMALL}


@dataclass(frozen=True)
class Case:
    """A pipeline: how it is made from a scheduler, its config, the arguments of a call."""

    make: Any
    arguments: dict[str, Any]
    own: tuple[str, dict[str, Any]] = ("DDIM", {"clip_sample": False, **SD})
    steps: int = 3


def of(make: Any, kind: str, **more: Any) -> Any:
    """``make`` for the pipeline class ``kind``."""
    return lambda scheduler: make(scheduler, kind, **more)


def sd3_inpaint(scheduler: Any) -> Any:
    """The pipeline accepts networks of 16 channels only."""
    sizes = {"sample_size": 8, "patch_size": 1, "num_layers": 1, "pos_embed_max_size": 32}
    heads = {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "joint_attention_dim": 16,
        "caption_projection_dim": 16,
        "pooled_projection_dim": 8,
    }
    net = seeded(diffusers.SD3Transformer2DModel, in_channels=16, out_channels=16, **sizes, **heads)
    coded = vae(16, shift_factor=0.06, scaling_factor=1.5)
    return built("StableDiffusion3InpaintPipeline", scheduler, transformer=net, vae=coded)


CASES: dict[str, Case] = {
    "StableDiffusionPipeline": Case(stable_diffusion, {**EMBEDS, **SMALL}),
    "StableDiffusionImg2ImgPipeline": Case(
        of(stable_diffusion, "StableDiffusionImg2ImgPipeline"), {**EMBEDS, **CHANGED}, steps=5
    ),
    "StableDiffusionInpaintPipeline": Case(
        of(stable_diffusion, "StableDiffusionInpaintPipeline"), {**EMBEDS, **PAINTED}, steps=5
    ),
    "StableDiffusionControlNetPipeline": Case(
        lambda scheduler: stable_diffusion(
            scheduler, "StableDiffusionControlNetPipeline", controlnet=control_net()
        ),
        {**EMBEDS, "image": picture()},
    ),
    "StableDiffusionXLPipeline": Case(
        sdxl("StableDiffusionXLPipeline"), {**EMBEDS, **POOLED, **SMALL}, ("EulerDiscrete", SD)
    ),
    "StableDiffusionXLImg2ImgPipeline": Case(
        sdxl("StableDiffusionXLImg2ImgPipeline"),
        {**EMBEDS, **POOLED, **CHANGED},
        ("EulerDiscrete", SD),
        5,
    ),
    "StableDiffusionXLInpaintPipeline": Case(
        sdxl("StableDiffusionXLInpaintPipeline"),
        {**EMBEDS, **POOLED, **PAINTED},
        ("EulerDiscrete", SD),
        5,
    ),
    "StableDiffusion3Pipeline": Case(sd3, {**EMBEDS, **POOLED_SD3, **SMALL}, FLOW),
    "StableDiffusion3Img2ImgPipeline": Case(
        of(sd3, "StableDiffusion3Img2ImgPipeline"), {**EMBEDS, **POOLED_SD3, **CHANGED}, FLOW, 5
    ),
    "StableDiffusion3InpaintPipeline": Case(
        sd3_inpaint, {**EMBEDS, **POOLED_SD3, **PAINTED}, FLOW, 5
    ),
    "FluxPipeline": Case(flux("FluxPipeline"), {**FLUX, **SMALL}, FLOW),
    "FluxImg2ImgPipeline": Case(flux("FluxImg2ImgPipeline"), {**FLUX, **CHANGED, **SMALL}, FLOW, 5),
    "FluxInpaintPipeline": Case(flux("FluxInpaintPipeline"), {**FLUX, **PAINTED}, FLOW, 5),
    "PixArtAlphaPipeline": Case(
        pixart_alpha, {**both(16, masks=MASKS, dtype=torch.float32), **PIXART}
    ),
    "PixArtSigmaPipeline": Case(pixart, CALLS["pixart"][1]),
}


def pipe_of(name: str, sampler: str | None = None, **more: Any) -> Any:
    """The pipeline of a case with a FewstepScheduler."""
    case = CASES[name]
    return case.make(ours(*case.own, sampler=sampler, noise_seed=0, **more))


def drawn(name: str, pipe: Any, **more: Any) -> tuple[torch.Tensor, int]:
    """Latents of a call, and the number of network calls."""
    case = CASES[name]
    return run(pipe, case.steps, output="latent", **{**case.arguments, **more})


def own_guidance(name: str, pipe: Any, w: float = W, **more: Any) -> tuple[torch.Tensor, int]:
    """The same with the pipeline's own guidance."""
    return drawn(name, pipe, **{LAYOUTS[name].scale: w, **more})


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference relative to the largest value of ``b``."""
    return float((a.double() - b.double()).abs().max() / b.double().abs().max())


def equal(name: str, sampler: str | None) -> bool:
    """Whether guided by CFG the pipeline draws what it draws by its own guidance, in as many
    calls."""
    pipe = pipe_of(name, sampler)
    (a, calls) = own_guidance(name, pipe)
    (b, mine) = drawn(name, guided(pipe, lambda den: CFG(den, W)))
    (c, _) = own_guidance(name, pipe, 1.5 * W)
    assert difference(a, c) > 1e-4  # the scale is heard
    return mine == calls and difference(b, a) < EQUAL


def shape_of_calls(name: str) -> tuple[int, list[int]]:
    """Network calls a step, and rows of each, for one sample; ddim."""
    pipe = guided(pipe_of(name, "ddim"), lambda den: CFG(den, W))
    network, rows = getattr(pipe, LAYOUTS[name].network), []
    hook = network.register_forward_hook(
        lambda module, given, answer: rows.append(answer[0].shape[0])
    )
    drawn(name, pipe)
    hook.remove()
    steps = pipe.scheduler.step_index - (pipe.scheduler.begin_index or 0)
    each = len(rows) // steps
    assert rows == rows[:each] * steps
    return each, rows[:each]


def table() -> str:
    """The text between the marks of docs/diffusers.md."""
    lines = [BEGIN, "", "| pipeline | network calls a step | scale | CFG equals its own guidance |"]
    lines.append("|---|---|---|---|")
    for name in LAYOUTS:
        each, rows = shape_of_calls(name)
        fits = [sampler for sampler in SAMPLERS if equal(name, sampler)]
        calls = f"{each} of {rows[0]} B rows" if rows[0] > 1 else f"{each} of B rows"
        lines.append(f"| {name} | {calls} | `{LAYOUTS[name].scale}` | {', '.join(fits)} |")
    return "\n".join([*lines, "", END])


def written() -> str:
    """The table that docs/diffusers.md holds."""
    text = PAGE.read_text(encoding="utf-8")
    return text[text.index(BEGIN) : text.index(END) + len(END)]


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text(encoding="utf-8").replace(written(), table()), encoding="utf-8")

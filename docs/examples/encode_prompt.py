"""Encode a prompt and save the conditions of the network, for ``fewstep generate --cond`` and
``fewstep.sample(cond=)``: SD 1.5, SDXL, SD3, Flux.

    python docs/examples/encode_prompt.py --model PATH --prompt "a lighthouse at dusk" --out
        prompt.safetensors
    fewstep generate --model PATH --cond prompt.safetensors --seeds 0-7 --batch 4 --out latents

The file holds one row of each tensor, under the argument names of the network. Samples of these
networks are latents.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file


def conditions(
    pipe: Any, prompt: str, guidance: float, size: int | None
) -> dict[str, torch.Tensor]:
    """The conditions of ``prompt`` by the argument names of the network; ``guidance`` is the input
    of that name of Flux, not a CFG scale."""
    kind = type(pipe).__name__
    if kind == "StableDiffusionPipeline":
        return {"encoder_hidden_states": pipe.encode_prompt(prompt, pipe.device, 1, False)[0]}
    if kind == "StableDiffusionXLPipeline":
        text, _, pooled, _ = pipe.encode_prompt(prompt, do_classifier_free_guidance=False)
        pixels = float(size or pipe.default_sample_size * pipe.vae_scale_factor)
        # original size, crop, target size
        sizes = torch.tensor([[pixels, pixels, 0.0, 0.0, pixels, pixels]])
        return {"encoder_hidden_states": text, "text_embeds": pooled, "time_ids": sizes}
    if kind == "StableDiffusion3Pipeline":
        text, _, pooled, _ = pipe.encode_prompt(
            prompt, None, None, do_classifier_free_guidance=False
        )
        return {"encoder_hidden_states": text, "pooled_projections": pooled}
    if kind == "FluxPipeline":
        text, pooled, _ = pipe.encode_prompt(prompt, None)
        told = (
            {"guidance": torch.tensor([guidance])}
            if pipe.transformer.config.guidance_embeds
            else {}
        )
        return {"encoder_hidden_states": text, "pooled_projections": pooled, **told}
    raise SystemExit(f"{kind}: must be a pipeline of Stable Diffusion 1 or 2, SDXL, SD3 or Flux")


def main(argv: Sequence[str] | None = None) -> None:
    """Load, encode, save."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--model", required=True, help="a pipeline's folder")
    p.add_argument("--prompt", required=True)
    p.add_argument(
        "--guidance",
        type=float,
        default=3.5,
        help="the guidance input of a guidance-distilled Flux (default 3.5)",
    )
    p.add_argument(
        "--size",
        type=int,
        help="height and width of SDXL's pictures in pixels (default: the pipeline's)",
    )
    p.add_argument("--out", default="prompt.safetensors")
    args = p.parse_args(argv)
    pipe = DiffusionPipeline.from_pretrained(args.model)
    with torch.no_grad():
        found = conditions(pipe, args.prompt, args.guidance, args.size)
    save_file({name: value.contiguous() for name, value in found.items()}, args.out)
    print(
        f"{args.out}: {', '.join(f'{name} {tuple(value.shape)}' for name, value in found.items())}"
    )


if __name__ == "__main__":
    main()

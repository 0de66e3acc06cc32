"""Draw a picture of a prompt with a sampler of fewstep: Stable Diffusion 1.5, SDXL, SD3, Flux, or
another text-to-image pipeline.

    python docs/examples/text_to_image.py --model PATH --prompt "a lighthouse at dusk" --sampler
        unipc --steps 8 --seed 0 --out picture.png

PATH is a folder that diffusers can load (or a name on its hub). Only the scheduler of the pipeline
is replaced.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline

from fewstep import FewstepScheduler


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--model", required=True, help="a pipeline's folder")
    p.add_argument("--prompt", required=True)
    p.add_argument("--negative", help="what the picture should not be, where the pipeline takes it")
    p.add_argument("--sampler", default="unipc", help="see `fewstep samplers` (default unipc)")
    p.add_argument(
        "--order", type=int, help="order, for samplers of several orders: unipc, deis, lms, ipndm"
    )
    p.add_argument("--steps", type=int, default=8)
    p.add_argument("--guidance", type=float, help="guidance scale (default: the pipeline's)")
    p.add_argument("--size", type=int, help="height and width in pixels (default: the pipeline's)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    p.add_argument("--out", default="picture.png")
    return p.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Load, change the scheduler, draw, save."""
    args = arguments(argv)
    pipe = DiffusionPipeline.from_pretrained(args.model, torch_dtype=getattr(torch, args.dtype)).to(
        args.device
    )
    # noise_seed: SD3, Flux and others pass no generator to their scheduler, which stochastic
    # samplers need
    pipe.scheduler = FewstepScheduler.from_config(
        pipe.scheduler.config, sampler=args.sampler, solver_order=args.order, noise_seed=args.seed
    )
    asked: dict[str, Any] = {
        "negative_prompt": args.negative,
        "guidance_scale": args.guidance,
        "height": args.size,
        "width": args.size,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    generator = torch.Generator("cpu").manual_seed(args.seed)
    made = pipe(args.prompt, num_inference_steps=args.steps, generator=generator, **given)
    made.images[0].save(args.out)
    print(
        f"{type(pipe).__name__}, {args.sampler}: {args.steps} steps, {pipe.scheduler.nfe} "
        f"network evaluations, {args.out}"
    )


if __name__ == "__main__":
    main()

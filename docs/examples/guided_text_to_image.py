"""Draw a picture of a prompt with guidance of fewstep: Stable Diffusion 1.5, SDXL, SD3 or Flux.

    python docs/examples/guided_text_to_image.py --model PATH --prompt "a lighthouse at dusk"
        --negative "blurry" --guidance cfg --scale 5 --interval 0.3,8 --out picture.png

PATH is a folder that diffusers can load (or a name on its hub). ``--guidance`` is a name of
``fewstep.guidance.names()``. Flux needs ``--negative``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from diffusers import DiffusionPipeline

import fewstep
from fewstep import FewstepScheduler
from fewstep.interop.diffusers import guided


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--model", required=True, help="a pipeline's folder")
    p.add_argument("--prompt", required=True)
    p.add_argument("--negative", help="the negative prompt; default: the empty one, Flux has none")
    p.add_argument("--guidance", default="cfg", choices=fewstep.guidance.names())
    p.add_argument("--scale", type=float, default=5.0, help="1 is the conditional prediction")
    p.add_argument("--interval", help="lo,hi: noise levels sigma / alpha where the scale applies")
    p.add_argument("--sampler", default="dpmpp_2m", help="see `fewstep samplers`")
    p.add_argument("--steps", type=int, default=8)
    p.add_argument("--size", type=int, help="height and width in pixels (default: the pipeline's)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--out", default="picture.png")
    return p.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Load, change the scheduler, guide, draw, save."""
    args = arguments(argv)
    pipe = DiffusionPipeline.from_pretrained(args.model).to(args.device)
    pipe.scheduler = FewstepScheduler.from_config(
        pipe.scheduler.config, sampler=args.sampler, noise_seed=args.seed
    )
    interval = args.interval and tuple(float(v) for v in args.interval.split(","))
    pipe = guided(pipe, args.guidance, scale=args.scale, interval=interval)
    given = {"negative_prompt": args.negative, "height": args.size, "width": args.size}
    made = pipe(
        args.prompt,
        num_inference_steps=args.steps,
        generator=torch.Generator("cpu").manual_seed(args.seed),
        **{name: value for name, value in given.items() if value is not None},
    )
    made.images[0].save(args.out)
    print(
        f"{type(pipe).__name__}, {args.sampler}, {args.guidance} {args.scale}: "
        f"{pipe.scheduler.nfe} evaluations, {args.out}"
    )


if __name__ == "__main__":
    main()

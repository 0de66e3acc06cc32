"""Draw samples from a model into a folder: one file a sample (or npz blocks), a grid picture and a
manifest.

    fewstep generate --out samples/demo
    fewstep generate --model mnist --out digits --seeds 0-999 --batch 100 --sampler unipc --nfe 8 -o
        order=3 --labels 7
    fewstep generate --out bold --seeds 0-15 --steer smc --particles 16 --reward rewards.py:ink
    accelerate launch -m fewstep generate --out digits --seeds 0-49999

If the command is stopped, run it again to go on: seeds are cut into blocks of --batch, finished
blocks are kept, and the bytes are those of an unbroken run. Seeds may be added at the end. Several
processes, as started by accelerate, torchrun or mpirun, share the blocks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..checks.commands import tell
from ..files import dumps
from .arguments import add_config, add_drawing, add_format, add_steering
from .options import job_options, read_options
from .progress import BlockProgress
from .settings import defaults_of, resolve

HELP = "draw samples from a model into a folder"
#: the model that is drawn from if none is named
MODEL = "mnist"


def add_arguments(p: argparse.ArgumentParser) -> None:
    """The arguments of ``fewstep generate``."""
    p.add_argument("--out", required=True, type=Path, help="the folder to write to")
    add_drawing(p)
    add_steering(p)
    add_format(p)
    add_config(p, "print the manifest")


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ..jobs import generate

    read_options(args)
    defaults = {"model": MODEL, "option": {}, **defaults_of(generate, "progress")}
    settings = resolve(args, defaults)
    model, options = settings.pop("model"), job_options(settings.pop("option"), generate)
    with BlockProgress() as progress:
        made = generate(model, args.out, progress=progress, **settings, **options)
    if made.manifest is None:
        tell(f"{args.out}: this process is done; others have blocks left")
        return 0
    if args.json:
        print(dumps(made.manifest), end="")
        return 0
    nfe = made.manifest["nfe"]
    calls = "its own number of" if nfe is None else nfe
    each = "each" if "particles" not in made.manifest else "for each particle"
    print(
        f"{made.manifest['count']} samples of {model} by {made.manifest['sampler']}, "
        f"{calls} network calls {each}: {args.out}"
    )
    if "reason" in made.manifest:
        print(made.manifest["reason"])
    rewards = [row["reward"] for row in made.manifest["samples"] if "reward" in row]
    if rewards:
        print(f"reward: mean {sum(rewards) / len(rewards):.6g}, largest {max(rewards):.6g}")
    print(f"picture: {made.picture}\nmanifest: {args.out / 'manifest.json'}")
    return 0

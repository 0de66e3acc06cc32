"""Draw samples from a model into a folder: one file a sample (or npz blocks), a grid picture and a
manifest.

    fewstep generate --out samples/demo
    fewstep generate --model mnist --out digits --seeds 0-999 --batch 100 --sampler unipc --nfe 8 -o
        order=3 --labels 7
    accelerate launch -m fewstep generate --out digits --seeds 0-49999

Run again after a stop, the same command goes on where it was: seeds are cut into blocks of --batch,
whole blocks are kept, and the bytes are those of an unbroken run. Several processes, as accelerate,
torchrun or mpirun start them, share the blocks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..checks.commands import tell
from ..files import dumps
from ..jobs.settings import FINALS, FORMATS
from .options import job_options, parse_options
from .progress import block_progress
from .settings import defaults_of, resolve

HELP = "draw samples from a model into a folder"
#: the model that is drawn from if none is named
MODEL = "mnist"


def add_arguments(p: argparse.ArgumentParser) -> None:
    """The flags; a flag that is not given is None, so that a --config file can speak."""
    p.add_argument("--out", required=True, type=Path, help="the folder to write to")
    drawing_arguments(p)
    p.add_argument(
        "--format",
        choices=FORMATS,
        help="png: a file a sample; npz: one a block (default png for pictures)",
    )
    p.add_argument("--config", type=Path, help="YAML file of these settings; flags override it")
    p.add_argument("--json", action="store_true", help="print the manifest")


def drawing_arguments(
    p: argparse.ArgumentParser, seeds: str = "0-63", labels: str = "cycle"
) -> None:
    """The flags of what is drawn, from which model and how."""
    p.add_argument("--model", help="a bundled name, `mixture` (exact), or a folder (default mnist)")
    p.add_argument("--seeds", help=f"one a sample: 0-63, or 1,4,10-12 (default {seeds})")
    p.add_argument(
        "--batch",
        type=int,
        help="samples drawn together; part of what decides the bytes (default 64)",
    )
    p.add_argument("--sampler", help="see `fewstep samplers` (default dpmpp_2m)")
    p.add_argument("--steps", type=int, help="grid steps (default 20)")
    p.add_argument("--nfe", type=int, help="a budget of network calls instead of --steps")
    p.add_argument("--grid", help="time grid (default auto: the model's own)")
    p.add_argument("--final", choices=FINALS, help="where the grid ends (default zero)")
    p.add_argument(
        "-o",
        "--option",
        action="append",
        metavar="KEY=VALUE",
        help="an option of the sampler; may be repeated",
    )
    p.add_argument(
        "--labels",
        help="classes: cycle (seed modulo classes), random, none, or a list such as 7 or 0,1 "
        f"(default {labels})",
    )
    p.add_argument(
        "--cond",
        help="safetensors file of the model's conditions by name, one row for all samples or one "
        "a sample",
    )
    p.add_argument(
        "--size",
        help="of a sample in the network's own units, such as 64 or 64x96, for networks from "
        "diffusers",
    )
    p.add_argument("--device", help="where the network runs (default: a GPU if there is one)")


def execute(args: argparse.Namespace) -> int:
    """The command."""
    from ..jobs import generate

    args.option = parse_options(args.option) if args.option else None
    defaults = {"model": MODEL, "option": {}, **defaults_of(generate, "progress")}
    settings = resolve(args, defaults)
    model, options = settings.pop("model"), job_options(settings.pop("option"), generate)
    made = generate(model, args.out, progress=block_progress(), **settings, **options)
    if made.manifest is None:
        tell(f"{args.out}: this process is done; others have blocks left")
        return 0
    if args.json:
        print(dumps(made.manifest), end="")
        return 0
    nfe = made.manifest["nfe"]
    calls = "its own number of" if nfe is None else nfe
    print(
        f"{made.manifest['count']} samples of {model} by {made.manifest['sampler']}, "
        f"{calls} network calls each: {args.out}"
    )
    print(f"picture: {made.picture}\nmanifest: {args.out / 'manifest.json'}")
    return 0

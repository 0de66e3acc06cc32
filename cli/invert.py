"""Compute the noise from which a sampler reproduces images, sample back, and compare.

    fewstep invert digits --out noise --model mnist --steps 20
    fewstep invert photos --out noise --model FOLDER --sampler edict --steps 50 --json
    fewstep invert digits --out noise --sampler ddim --inversion newton --steps 20
    fewstep invert photos --out noise --model FOLDER --scheduler ddim_inverse.json --steps 50

The source is a folder of pictures or npz files, or a folder of `fewstep generate`, whose labels are
used. The folder holds the noises and reconstructions as npz files, the reconstructions of pictures,
and inversion.json with the error of every image: the root mean square difference in values from -1
to 1. If the command is stopped, run it again to go on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..files import dumps
from ..jobs.settings import FINALS
from .arguments import add_batch, add_config, add_device, add_guidance
from .options import job_options, read_options
from .progress import BlockProgress
from .settings import defaults_of, resolve

HELP = "compute the noise of images, and measure the reconstruction"
#: the model that is inverted if none is named
MODEL = "mnist"


def add_arguments(p: argparse.ArgumentParser) -> None:
    """The arguments of ``fewstep invert``."""
    p.add_argument("source", nargs="?", help="a folder of pictures or npz files, or of `generate`")
    p.add_argument("--out", required=True, type=Path, help="the folder to write to")
    p.add_argument("--model", help="a bundled name, `mixture` (exact), or a folder (default mnist)")
    add_batch(p, "images inverted together (default 64)")
    p.add_argument("--sampler", help="a deterministic sampler (default dpm_solver_2m)")
    p.add_argument(
        "--inversion",
        help="reversed, exact, fixed_point or newton (default exact for edict, bdia, belm, "
        "reversible_heun and flow_belm, else reversed)",
    )
    p.add_argument("--iterations", type=int, help="of fixed_point and newton, in every step")
    p.add_argument("--prior", type=float, help="weight of the prior term of newton (default 0)")
    p.add_argument("--steps", type=int, help="grid steps (default 20)")
    p.add_argument("--nfe", type=int, help="a budget of network calls instead of --steps")
    p.add_argument("--grid", help="time grid of sampling (default auto)")
    p.add_argument("--final", choices=FINALS, help="where it ends (default sigma_min)")
    p.add_argument(
        "--scheduler",
        help="an inverse scheduler of diffusers instead of --sampler: the JSON file of its config, "
        "or its folder; with --steps",
    )
    p.add_argument(
        "-o",
        "--option",
        action="append",
        metavar="KEY=VALUE",
        help="an option of the sampler; may be repeated",
    )
    p.add_argument(
        "--labels", help="classes: source (of a folder of generate), none, or a list such as 7"
    )
    add_guidance(p)
    add_device(p)
    add_config(p, "print inversion.json")


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ..jobs import invert

    read_options(args)
    defaults = {"model": MODEL, "source": None, "option": {}, **defaults_of(invert, "progress")}
    settings = resolve(args, defaults)
    model, source = settings.pop("model"), settings.pop("source")
    options = job_options(settings.pop("option"), invert)
    with BlockProgress() as progress:
        made = invert(model, source, args.out, progress=progress, **settings, **options)
    if args.json:
        print(dumps(made.record), end="")
        return 0
    record = made.record
    print(
        f"{record['count']} samples inverted by {record['sampler']} ({record['method']}), "
        f"{record['nfe']} network calls each; reconstruction error {record['error']:.2e} "
        f"(root mean square), largest {record['largest_error']:.2e}: {args.out}"
    )
    return 0

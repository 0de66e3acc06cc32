"""Draw samples of the posterior of a measurement into a folder, with scores where the truth is
known.

    fewstep solve TASK.yaml --out DIR
    fewstep solve --model mnist --task inpaint-box --truth digits --method pigdm --out filled
    fewstep solve --task super-resolution -t factor=2 --measurement small.png --sigma-y 0.05
        --seeds 0-15 --out large
    fewstep solve --operator physics.py:Scanner --measurement y.npy --out scanned

TASK.yaml holds these settings by the names of the flags; flags override it. The folder is that of
`fewstep generate`, with a picture of measurement, reconstruction and truth. If the command is
stopped, run it again to go on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checks.commands import tell
from ..files import dumps
from .arguments import add_drawing, add_format, add_json
from .options import read_options
from .progress import BlockProgress
from .settings import defaults_of, resolve

HELP = "draw samples of the posterior of a measurement into a folder"
#: the model that is drawn from if none is named
MODEL = "mnist"
#: score -> how it is printed
LINES = {
    "residual": "|y - A(x)| / (sigma_y sqrt(m)): mean {:.4g}",
    "misfit": "|y - A(x)|: mean {:.4g}",
    "rmse": "root mean square error: mean {:.4g}",
    "psnr": "PSNR: mean {:.4g} dB",
    "ssim": "SSIM: mean {:.4g}",
    "lpips": "LPIPS: mean {:.4g}",
}


def add_arguments(p: argparse.ArgumentParser) -> None:
    """The arguments of ``fewstep solve``."""
    p.add_argument(
        "config", nargs="?", type=Path, metavar="TASK.yaml", help="YAML file of these settings"
    )
    p.add_argument("--out", required=True, type=Path, help="the folder to write to")
    p.add_argument("--task", help="the forward model, such as inpaint-box; a wrong name lists all")
    _add_options(p, "-t", "--task-option", "the forward model, such as box=14")
    p.add_argument(
        "--operator",
        metavar="WHERE:NAME",
        help="a forward model of your own: package.module:name or file.py:name, which is imported",
    )
    p.add_argument("--method", help="such as pigdm; a wrong name lists all (default mmps)")
    _add_options(p, "-m", "--method-option", "the method, such as iterations=2")
    p.add_argument(
        "--sigma-y",
        type=float,
        help="standard deviation of the noise; 0 is an exact constraint (default 0.1)",
    )
    p.add_argument("--measurement", help="file of y: .npy, .npz, .safetensors or a picture")
    p.add_argument(
        "--truth", help="pictures or arrays from which measurements are simulated, and scored"
    )
    p.add_argument("--noise-seed", type=int, help="of the simulated noise (default 0)")
    p.add_argument("--lpips", metavar="FILE", help="AlexNet's weights, to score by LPIPS too")
    add_drawing(p, "one a measurement", "none", "the method's own")
    add_format(p)
    add_json(p, "print the manifest")


def _add_options(p: argparse.ArgumentParser, short: str, flag: str, what: str) -> None:
    p.add_argument(
        short,
        flag,
        action="append",
        metavar="KEY=VALUE",
        help=f"an option of {what}; may be repeated",
    )


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ..jobs import solve

    read_options(args)
    settings = resolve(args, {"model": MODEL, **defaults_of(solve, "progress")})
    model = settings.pop("model")
    with BlockProgress() as progress:
        made = solve(model, args.out, progress=progress, **settings)
    if made.manifest is None:
        tell(f"{args.out}: this process is done; others have blocks left")
        return 0
    if args.json:
        print(dumps(made.manifest), end="")
        return 0
    print("\n".join(lines(made.manifest, args.out)))
    picture = made.comparison if made.comparison.exists() else made.picture
    print(f"picture: {picture}\nmanifest: {args.out / 'manifest.json'}")
    return 0


def lines(manifest: Mapping[str, Any], out: Path) -> list[str]:
    """What was drawn, its cost and its scores, in words."""
    calls, scores = manifest["calls"], manifest["scores"]
    shown = [text.format(scores[name]) for name, text in LINES.items() if name in scores]
    return [
        f"{manifest['count']} samples of {manifest['model']} by {manifest['method']} with "
        f"{manifest['sampler']}: {out}",
        f"calls a block: {calls['network']} of the network, {calls['vjp']} vector-Jacobian "
        f"products, {calls['operator']} of the operator, {calls['adjoint']} of its adjoint",
        *shown,
    ]

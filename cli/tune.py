"""Tune plans: the best deterministic sampler of so many network calls for a model.

    fewstep tune --model mnist --nfe 5 8 10 --out tuned
    fewstep generate --model mnist --sampler file:tuned/8.json --out digits
    fewstep tune --model mixture --nfe 8 --what coefficients --budget 60 --out tuned
    fewstep tune --model mixture --nfe 4 --loss losses.py:spread --out distilled

Coefficients and times are fitted to the model's own converged trajectories, chosen by others, and
compared with the best untuned plan on a third set; the untuned plan is written where it wins. Each
plan is one JSON file with its provenance. Plans that are in the folder are kept: run the command
again to go on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks.commands import tell
from ..files import dumps
from .arguments import add_config, add_device, add_guidance
from .options import read_options
from .settings import defaults_of, resolve

if TYPE_CHECKING:
    from ..engine import Tuned

HELP = "tune the coefficients and times of a plan to a model"
#: the model if none is named
MODEL = "mnist"


def add_arguments(p: argparse.ArgumentParser) -> None:
    """The arguments of ``fewstep tune``."""
    p.add_argument("--out", required=True, type=Path, help="the folder to write to")
    p.add_argument("--model", help="a bundled name, `mixture` (exact), or a folder (default mnist)")
    calls = "network calls, one plan for each (default 8)"
    p.add_argument("--nfe", dest="nfes", nargs="+", type=int, help=calls)
    p.add_argument(
        "--what",
        help="search, statistics, times, schedules, compensation, space, coefficients or all "
        "(default), or several joined by +",
    )
    p.add_argument("--budget", help="time for each plan: seconds, or such as 5min (default 300)")
    p.add_argument("--sampler", help="begin from this sampler (default: search the best)")
    p.add_argument("--grid", help="its time grid (default auto)")
    p.add_argument(
        "-o",
        "--option",
        action="append",
        metavar="KEY=VALUE",
        help="an option of the sampler; may be repeated",
    )
    p.add_argument("--trajectories", type=int, help="of the fit (default 64; 256 for exact models)")
    p.add_argument("--test", type=int, help="trajectories of the comparison (default: as many)")
    p.add_argument(
        "--fine-steps",
        type=int,
        help="steps of the converged trajectories (default 128; 512 for exact models)",
    )
    p.add_argument("--labels", help="classes of the trajectories, as for `generate`")
    p.add_argument(
        "--loss",
        help="distil to a loss of the end states, lower is better: FILE.py:FUNCTION of (x, cond)",
    )
    p.add_argument("--seed", type=int, help="shifts the seeds of the trajectories (default 0)")
    p.add_argument("--size", help="of a sample, as for `generate`")
    add_guidance(p)
    add_device(p)
    add_config(p, "print the reports")


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ..jobs import tune

    read_options(args)
    settings = resolve(args, {"model": MODEL, **defaults_of(tune, "told", "progress")})

    def told(file: Path, made: Tuned, there: bool) -> None:
        if not args.json:
            print(line(file, made) + (" (was there)" if there else ""), flush=True)

    found = tune(settings.pop("model"), args.out, told=told, progress=tell, **settings)
    if args.json:
        print(dumps([dict(made.report) for made in found]), end="")
    return 0


def line(file: Path, made: Tuned) -> str:
    """A plan in words: its error beside that of the best untuned plan."""
    report: Any = made.report
    now, before = report["test"]["tuned"], report["test"]["untuned"]
    if report["kept"] == "untuned":
        what = f"{report['untuned']}, untuned, which no fit improved"
    else:
        stages = ", ".join(stage["stage"] for stage in report["stages"])
        what = f"{report['from']}, then {stages}"
    return (
        f"{file}: {made.plan.nfe} network calls, median error {now['median']:.3g} "
        f"[{now['low']:.3g}, {now['high']:.3g}], untuned {before['median']:.3g} "
        f"[{before['low']:.3g}, {before['high']:.3g}] ({report['untuned']}); {what}"
        + (f"; {report['note']}" if "note" in report else "")
    )

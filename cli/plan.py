"""``fewstep plan``: a sampler on a grid as a table or as JSON, without a network."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..checks import ScheduleError, unknown
from ..jobs.settings import FINALS, checked
from .options import job_options, parse_options

if TYPE_CHECKING:
    from ..schedules.base import Schedule

NAME = "plan"
HELP = "print the plan of a sampler: every network call and linear combination, with coefficients"
#: the model whose schedule is used if none is named
DEFAULT_MODEL = "mnist"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``fewstep plan``."""
    parser.add_argument(
        "sampler",
        metavar="SAMPLER",
        help="a name of `fewstep samplers`, or another program's name for it",
    )
    _add_schedule(parser)
    _add_grid(parser)
    parser.add_argument(
        "-o",
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the sampler; repeatable",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="the plan as JSON, which Plan.from_json reads back exactly",
    )


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    """Where the schedule comes from."""
    path = parser.add_mutually_exclusive_group()
    path.add_argument(
        "--model",
        metavar="NAME|FOLDER",
        help=f"the model whose schedule is used (default {DEFAULT_MODEL})",
    )
    path.add_argument(
        "--schedule",
        metavar="NAME",
        help="a schedule class instead: VPLinear, EDM, Flow, DiscreteVP, ...",
    )


def _add_grid(parser: argparse.ArgumentParser) -> None:
    """How many times, and where they lie."""
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, metavar="N", help="grid intervals (default 20)")
    length.add_argument(
        "--nfe",
        type=int,
        metavar="N",
        help="a budget of network calls instead: the largest plan that fits",
    )
    parser.add_argument(
        "--grid", default="auto", metavar="NAME", help="how the times are spaced (default auto)"
    )
    parser.add_argument(
        "--final", default="zero", choices=FINALS, help="where the plan ends (default zero)"
    )
    parser.add_argument(
        "--start",
        type=float,
        metavar="T",
        help="begin at this time of the schedule instead of its largest",
    )


def execute(args: argparse.Namespace) -> int:
    """Print the plan. Raises ArgumentError for names and numbers that make no plan, ModelError for
    a model that cannot be read."""
    from ..engine import plan

    for name in ("steps", "nfe"):
        if getattr(args, name) is not None:
            checked(name, getattr(args, name))
    options = job_options(parse_options(args.option), plan)
    schedule = (
        named_schedule(args.schedule)
        if args.schedule
        else model_schedule(args.model or DEFAULT_MODEL)
    )
    made = plan(
        args.sampler,
        schedule,
        steps=args.steps,
        nfe=args.nfe,
        grid=args.grid,
        final=args.final,
        start=args.start,
        **options,
    )
    print(made.to_json() if args.json else made.explain())
    return 0


def named_schedule(name: str) -> Schedule:
    """The first example of the schedule class called ``name``: its default parameters, for
    DiscreteVP the table of 1000 linear betas. Raises ScheduleError with the nearest match."""
    from ..schedules.registry import SCHEDULES

    if name not in SCHEDULES:
        raise ScheduleError(unknown("schedule", name, SCHEDULES))
    example: Schedule = SCHEDULES[name].examples()[0]
    return example


def model_schedule(name_or_folder: str) -> Schedule:
    """The schedule of a model; for models in fewstep's format it is read from config.json, without
    the weights. Raises ModelError."""
    from ..models import ModelError, load
    from ..models.weights import CONFIG, FORMAT, MIXTURE, locate, read_json

    if name_or_folder == MIXTURE:
        return load(name_or_folder).schedule
    folder = locate(name_or_folder)
    file = folder / CONFIG
    if (folder / "model_index.json").is_file() or (config := read_json(file)).get(
        "format"
    ) != FORMAT:
        return load(folder).schedule
    from ..schedules import EDM

    try:
        return EDM(float(config["edm"]["sigma_min"]), float(config["edm"]["sigma_max"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{str(file)!r}: no noise range in 'edm': {error!r}") from error

"""``fewstep plan``: a sampler on a grid as a table or as JSON, without a network."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..checks import ArgumentError, ScheduleError, unknown
from ..jobs.settings import FINALS, checked
from .options import job_options, parse_options

if TYPE_CHECKING:
    from ..schedules.base import Schedule
    from ..schedules.grids.auto import DataFacts

NAME = "plan"
HELP = "print the plan of a sampler: every network call and linear combination, with coefficients"
#: the model whose schedule is used if none is named
DEFAULT_MODEL = "mnist"
#: word of --shape -> whether samples have spatial axes
SHAPES = {"vector": False, "spatial": True}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``fewstep plan``."""
    parser.add_argument(
        "sampler",
        nargs="?",
        default="auto",
        metavar="SAMPLER",
        help="a name of `fewstep samplers`, or another program's name for it (default auto: chosen "
        "for the model and the number of calls)",
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
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--explain",
        action="store_true",
        help="name also the backend that computes the steps on the CPU and on CUDA here",
    )
    output.add_argument(
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
        help="the model whose schedule, and scale and shape of the data, are used (default "
        f"{DEFAULT_MODEL})",
    )
    path.add_argument(
        "--schedule",
        metavar="NAME",
        help="a schedule class instead: VPLinear, EDM, Flow, DiscreteVP, ...",
    )
    parser.add_argument(
        "--sigma-data",
        type=float,
        metavar="X",
        help="with --schedule: standard deviation of the data, for grid auto (default: unknown)",
    )
    parser.add_argument(
        "--shape",
        choices=SHAPES,
        help="with --schedule: whether samples are vectors or have spatial axes, for grid auto "
        "(default: unknown)",
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
        "--grid",
        default="auto",
        metavar="NAME",
        help="how the times are spaced: karras, uniform, logistic, ... (default auto: the rule of "
        "docs/grids.md; auto_0_1: that of version 0.1)",
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
    from ..engine.planning import request
    from ..schedules.grids.request import GridRequest

    for name in ("steps", "nfe"):
        if getattr(args, name) is not None:
            checked(name, getattr(args, name))
    options = job_options(parse_options(args.option), plan)
    schedule, facts = _named(args)
    where = GridRequest(
        args.steps, args.nfe, args.grid, final=args.final, start=args.start, facts=facts
    )
    made = request(args.sampler, schedule, options, where).plan()
    print(made.to_json() if args.json else made.explain(backend=args.explain))
    return 0


def _named(args: argparse.Namespace) -> tuple[Schedule, DataFacts]:
    """Return the schedule, and what is known of the data. Raises ArgumentError where the data are
    described beside a model."""
    from ..schedules.grids.auto import DataFacts

    said = {"--sigma-data": args.sigma_data, "--shape": args.shape}
    if args.schedule:
        spatial = None if args.shape is None else SHAPES[args.shape]
        return named_schedule(args.schedule), DataFacts(args.sigma_data, spatial)
    for flag, value in said.items():
        if value is not None:
            raise ArgumentError(f"{flag} {value}: a model says it itself; allowed with --schedule")
    return model_facts(args.model or DEFAULT_MODEL)


def named_schedule(name: str) -> Schedule:
    """The first example of the schedule class called ``name``: its default parameters, for
    DiscreteVP the table of 1000 linear betas. Raises ScheduleError with the nearest match."""
    from ..schedules.registry import SCHEDULES

    if name not in SCHEDULES:
        raise ScheduleError(unknown("schedule", name, SCHEDULES))
    example: Schedule = SCHEDULES[name].examples()[0]
    return example


def model_facts(name_or_folder: str) -> tuple[Schedule, DataFacts]:
    """Return the schedule of a model and the facts about its data; for models in fewstep's format
    they are read from config.json, without the weights. Raises ModelError."""
    from ..engine.automatic import facts_of
    from ..models import ModelError, load
    from ..models.weights import CONFIG, FORMAT, MIXTURE, locate, read_json

    folder = None if name_or_folder == MIXTURE else locate(name_or_folder)
    if (
        folder is None
        or (folder / "model_index.json").is_file()
        or (config := read_json(folder / CONFIG)).get("format") != FORMAT
    ):
        denoiser = load(name_or_folder)
        return denoiser.schedule, facts_of(denoiser)
    from ..schedules import EDM
    from ..schedules.grids.auto import DataFacts

    try:
        edm = {key: float(value) for key, value in config["edm"].items()}
        # its samples are pictures
        return EDM(edm["sigma_min"], edm["sigma_max"]), DataFacts(edm["sigma_data"], spatial=True)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"{str(folder / CONFIG)!r}, 'edm': {what}") from error

"""Compare samplers: samplers x grids x network calls x models, as Markdown, CSV, JSON and one page.

    fewstep bench --preset quick --out samples/bench
    fewstep bench --models mnist mixture --samplers ddim dpmpp_2m unipc:order=3 --grids auto karras
        --nfe 5 8 10 --samples 2000
    fewstep bench --models mnist --budget 8
    fewstep bench --task darcy --preset quick

A row is the largest plan that fits its budget of network calls. The solver error is the distance to
the model's converged probability-flow end points. The quality (--samples) is measured for the rows
of least solver error and for samplers that draw noise. Finished rows are kept in OUT/rows: after an
interruption the same command continues; other settings add other rows. --budget prints the best
sampler and grid at that many network calls, ties included.

--task compares on a model of physical fields: network calls against the residual of the equation,
the error of the solution and the distance to the data.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..checks import ArgumentError
from ..checks.commands import tell
from ..files import dumps
from .bench_settings import FLAGS, command_line, resolved

if TYPE_CHECKING:
    from ..eval.benchmark.result import Bench
    from ..models.denoiser import Denoiser

HELP = "compare samplers and grids on models, as tables and a page"


def add_arguments(p: argparse.ArgumentParser) -> None:
    """Add the flags. The default of each is None, so presets and --config files can set it."""
    p.add_argument(
        "--out",
        type=Path,
        default=Path("samples/bench"),
        help="the folder of rows and reports (default samples/bench)",
    )
    p.add_argument(
        "--task", help="compare on a model of physical fields instead of --models: darcy"
    )
    p.add_argument(
        "--preset",
        help="quick (minutes on 2 cores), docs, referee (solvers, skipping and choosing at equal "
        "calls), or full (a GPU); other flags override it",
    )
    p.add_argument(
        "--budget",
        type=int,
        metavar="NFE",
        help="print the best sampler and grid at this many network calls",
    )
    for flag, name, kind, text in FLAGS:
        many = kind in ("names", "choices", "numbers")
        p.add_argument(
            flag,
            dest=name,
            nargs="+" if many else None,
            type=kind if callable(kind) else str,
            help=text,
        )
    p.add_argument("--cache", type=Path, help="folder of reference end points (default OUT/cache)")
    p.add_argument(
        "--device", default="auto", help="where networks run (default: a GPU if there is one)"
    )
    p.add_argument("--config", type=Path, help="YAML file of these settings; flags override it")
    p.add_argument("--json", action="store_true", help="print the table as JSON")


def execute(args: argparse.Namespace) -> int:
    """Measure what is missing, write the reports, print the answer."""
    from ..eval.benchmark.report.saving import record, save_report
    from ..eval.benchmark.runner import bench
    from ..eval.benchmark.settings import PRESETS, BenchSettings

    if args.task is not None:
        return _task(args)
    settings = resolved(args, FLAGS, PRESETS, ("mnist",))
    BenchSettings(**settings)  # refuses what is wrong before a model is loaded
    report, done = _progress()
    models = settings.pop("models")
    try:
        result = bench(
            _placed(models, args.device), out=args.out, cache=args.cache, report=report, **settings
        )
    finally:
        done()
    command = command_line(args)
    paths = save_report(result, args.out, command, tell)
    if args.json:
        print(dumps(record(result, command)), end="")
    else:
        for model in result.models:
            print(answer(result, model))
        print("\n".join(f"{path.suffix[1:]}: {path}" for path in paths))
    if all(row.nfe is None for row in result.rows):
        why = next(
            (
                f": {row.sampler} on {row.grid} at {row.budget}: {row.skipped}"
                for row in result.rows
            ),
            "",
        )
        raise ArgumentError(f"no row could be measured{why}")
    return 0


def _task(args: argparse.Namespace) -> int:
    """Compare on the task's model of physical fields."""
    from .bench_task import execute_task

    report, done = _progress()
    try:
        return execute_task(args, report)
    finally:
        done()


def _placed(models: Sequence[str], device: str) -> dict[str, Denoiser]:
    """Load the models and move their networks to the device."""
    from ..eval.benchmark.subject import loaded
    from ..jobs.devices import device_named, move

    where = device_named(device)
    found = loaded(models)
    for denoiser in found.values():
        move(denoiser, where)
    return found


def answer(result: Bench, model: str) -> str:
    """Return the best at each budget, and for a single budget the code that draws with it."""
    from ..eval.benchmark.report.saving import answer_line, code_line

    budgets = result.settings.nfes
    lines = [f"{model}, {answer_line(result, model, budget, marked=False)}" for budget in budgets]
    if len(budgets) == 1:
        best = result.best(budgets[0], model)
        lines += [f"  {line}" for line in code_line(best[0]).splitlines()] if best else []
    return "\n".join(lines)


def _progress() -> tuple[Callable[[str], None], Callable[[], None]]:
    """Return two functions: one shows a line of progress on stderr, one clears it. Both do nothing
    if stderr is no terminal."""
    if not sys.stderr.isatty():
        return (lambda line: None), (lambda: None)
    clear = "\r\x1b[K"
    return (lambda line: tell(f"{clear}{line}", end="")), (lambda: tell(clear, end=""))

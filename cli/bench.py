"""Compare samplers: samplers x grids x network calls x models, as Markdown, CSV, JSON and one page.

    fewstep bench --preset quick --out samples/bench
    fewstep bench --models mnist mixture --samplers ddim dpmpp_2m unipc:order=3 --grids auto karras
        --nfe 5 8 10 --samples 2000
    fewstep bench --models mnist --budget 8

A row is the largest plan that fits its budget of network calls. The solver error is the distance to
the model's converged probability-flow end points. The quality (--samples) is measured for the rows
of least solver error and for samplers that draw noise. Finished rows are kept in OUT/rows: after an
interruption the same command continues; other settings add other rows. --budget prints the best
sampler and grid at that many network calls, ties included.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError, choice, shown, unknown
from ..checks.commands import tell
from ..files import dumps
from .config_file import read_config

if TYPE_CHECKING:
    from ..eval.benchmark.result import Bench
    from ..models.denoiser import Denoiser

HELP = "compare samplers and grids on models, as tables and a page"

#: flag, setting of ``bench``, kind, help
FLAGS: tuple[tuple[str, str, Any, str], ...] = (
    ("--models", "models", "names", "bundled names, `mixture`, folders (default mnist)"),
    (
        "--samplers",
        "samplers",
        "choices",
        "names with options, as unipc:order=3 (default: auto, 14 deterministic ones, dpmpp_2m_sde)",
    ),
    (
        "--grids",
        "grids",
        "choices",
        "time grids, with options as karras:rho=5 (default auto karras)",
    ),
    ("--nfe", "nfes", "numbers", "budgets of network calls (default 5 8 10 20)"),
    ("--seeds", "n", int, "seeds of the solver error (default 64)"),
    ("--samples", "samples", int, "samples of the quality; 0: none (default 0)"),
    (
        "--top",
        "top",
        "top",
        "quality of that many rows of least solver error at each budget, or `all` (default 5)",
    ),
    (
        "--quality-nfe",
        "quality_nfes",
        "numbers",
        "budgets at which quality is measured (default: all)",
    ),
    ("--batch", "batch", int, "samples drawn together (default 64)"),
    (
        "--tolerance",
        "tolerance",
        float,
        "RMS change below which the reference is converged (default 1e-3; exact models 1e-8)",
    ),
    ("--labels", "labels", str, "classes: cycle (seed modulo classes) or none (default cycle)"),
    (
        "--features",
        "features",
        str,
        "bundled feature network of the quality (default: that of the model's name)",
    ),
    ("--resamples", "resamples", int, "bootstrap resamples of a Frechet distance (default 200)"),
    ("--final", "final", str, "where the grids end: zero or sigma_min (default zero)"),
)


def add_arguments(p: argparse.ArgumentParser) -> None:
    """Add the flags. The default of each is None, so presets and --config files can set it."""
    p.add_argument(
        "--out",
        type=Path,
        default=Path("samples/bench"),
        help="the folder of rows and reports (default samples/bench)",
    )
    p.add_argument(
        "--preset",
        help="quick (minutes on 2 cores), docs, or full (a GPU); other flags override it",
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
    from ..eval.benchmark.settings import BenchSettings

    settings = resolved(args)
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


def resolved(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of ``bench``: preset, then file, then flags. ArgumentError for unknown
    names, with the nearest match."""
    from ..eval.benchmark.settings import PRESETS

    file = {
        key: value
        for key, value in (read_config(args.config) if args.config else {}).items()
        if value is not None
    }
    preset = args.preset if args.preset is not None else file.get("preset")
    file.pop("preset", None)
    if preset is not None:
        choice("preset", preset if isinstance(preset, str) else shown(preset), PRESETS)
    if args.budget is not None and args.nfes is not None:
        raise ArgumentError(
            f"--budget {args.budget} and --nfe {' '.join(args.nfes)}: give one of them"
        )
    flags = {flag[2:].replace("-", "_"): (name, kind) for flag, name, kind, _ in FLAGS}
    found: dict[str, Any] = {"models": ("mnist",), **(PRESETS[preset] if preset else {})}
    for key, value in file.items():
        if key not in flags:
            raise ArgumentError(f"{args.config}: {unknown('setting', key, flags)}")
        name, kind = flags[key]
        found[name] = _value(key, value, kind)
    for key, (name, kind) in flags.items():
        if getattr(args, name) is not None:
            found[name] = _value(key, getattr(args, name), kind)
    if args.budget is not None:
        found["nfes"] = (args.budget,)
        found["quality_nfes"] = None
    return found


def _value(key: str, value: Any, kind: Any) -> Any:
    """A setting from a flag or a file: lists may be written with commas."""
    from ..eval.benchmark.settings import split_named

    if kind == "top":
        return None if value in (None, "all") else _number(key, value)
    if kind is float:
        return _real(key, value)
    if kind is int:
        return _number(key, value)
    if kind is str:
        return value if isinstance(value, str) else shown(value)
    items = value if isinstance(value, list | tuple) else [value]
    if odd := [
        item for item in items if isinstance(item, bool) or not isinstance(item, str | int | float)
    ]:
        raise ArgumentError(f"{key}: {shown(odd[0])} must be a name, a number or a list of them")
    parts = [piece for item in items for piece in split_named(str(item))]
    return tuple(parts) if kind != "numbers" else tuple(_number(key, part) for part in parts)


def _number(key: str, text: Any) -> int:
    try:
        if isinstance(text, str | int) and not isinstance(text, bool):
            return int(text)
    except ValueError:
        pass
    raise ArgumentError(f"{key}: {shown(text)} is not a whole number")


def _real(key: str, text: Any) -> float:
    try:
        if isinstance(text, str | int | float) and not isinstance(text, bool):
            return float(text)
    except (ValueError, OverflowError):
        pass
    raise ArgumentError(f"{key}: {shown(text)} is not a number")


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


def command_line(args: argparse.Namespace) -> str:
    """Return the command that measures the same again: the given flags without the folders."""
    parts = ["fewstep", "bench"]
    for flag, value in (
        ("--preset", args.preset),
        ("--budget", args.budget),
        ("--config", args.config),
    ):
        parts += [flag, str(value)] if value is not None else []
    for flag, name, _, _ in FLAGS:
        value = getattr(args, name)
        if value is not None:
            parts += [flag, *(map(str, value) if isinstance(value, list) else [str(value)])]
    return shlex.join(parts)


def _progress() -> tuple[Callable[[str], None], Callable[[], None]]:
    """Return two functions: one shows a line of progress on stderr, one clears it. Both do nothing
    if stderr is no terminal."""
    if not sys.stderr.isatty():
        return (lambda line: None), (lambda: None)
    clear = "\r\x1b[K"
    return (lambda line: tell(f"{clear}{line}", end="")), (lambda: tell(clear, end=""))

"""``fewstep samplers``: the list of samplers, one sampler in detail, and the names of other
programs."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..jobs.settings import plain_option
from .options import option_text

if TYPE_CHECKING:
    from ..samplers import Alias

NAME = "samplers"
HELP = "list the samplers, describe one, or look up another program's name"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``fewstep samplers``."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="describe this one: options with defaults, order, names elsewhere; auto: what the "
        "automatic choice takes",
    )
    what.add_argument(
        "--find",
        metavar="NAME",
        help="a name, or part of one, in diffusers, k-diffusion, ComfyUI or A1111",
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def execute(args: argparse.Namespace) -> int:
    """Print the list, one description, or the aliases found. Raises SamplerError, with the nearest
    match, for an unknown name."""
    if args.find is not None:
        return _print_aliases(args.find, args.json)
    if args.name == "auto":
        return _print_automatic(args.json)
    if args.name is not None:
        return _print_one(args.name, args.json)
    from ..samplers import names

    rows = [summary(name) for name in names()]
    if args.json:
        print(json.dumps(plain_option(rows), allow_nan=False))
        return 0
    heads = ("sampler", "family", "form", "order", "stochastic", "nfe/step", "source")
    listed = [row if row["order_guided"] is None else {**row, "order": "none"} for row in rows]
    cells = [
        [
            str(_cell(row[key]))
            for key in ("name", "family", "form", "order", "stochastic", "nfe_per_step", "source")
        ]
        for row in listed
    ]
    print(table(heads, cells))
    print("auto, the default, takes one of these by itself: `fewstep samplers auto`")
    return 0


def _print_automatic(as_json: bool) -> int:
    """What ``sampler="auto"`` stands for."""
    from ..engine.automatic import choices

    rows = choices()
    if as_json:
        listed = [
            {**row, "calls": None if math.isinf(row["calls"]) else row["calls"]} for row in rows
        ]
        print(json.dumps(plain_option({"name": "auto", "choices": listed}), allow_nan=False))
        return 0
    print("auto: chosen for the number of network calls and the model; the default")
    cells = [
        [
            row["samples"],
            "any more" if math.isinf(row["calls"]) else f"at most {row['calls']:g}",
            row["sampler"],
            option_text(row["options"]) or "-",
        ]
        for row in rows
    ]
    print(table(("samples", "calls", "sampler", "options"), cells))
    print("the measurements: docs/grids.md; what it takes for a model: `fewstep plan --model NAME`")
    return 0


def summary(name: str) -> dict[str, Any]:
    """``describe(name)`` with the family (the module of its build function) and the network calls
    of a further step."""
    from ..samplers import describe, get

    return {
        **describe(name),
        "family": get(name).build.__module__.rpartition(".")[2],
        "nfe_per_step": nfe_per_step(name),
    }


def nfe_per_step(name: str) -> float | None:
    """Network calls of each further step, without the start-up; None for a driver, whose calls
    depend on the data."""
    from ..samplers import build, get
    from ..schedules import Flow, VPLinear
    from ..schedules.grids.construction import grid

    sampler = get(name)
    if sampler.form == "driver":
        return None
    schedule = Flow() if sampler.on[0] == "flow" else VPLinear()
    few, many = (build(name, grid("lam", schedule, n), sampler.options()).nfe for n in (12, 18))
    return (many - few) / 6


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell, two spaces apart."""
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (heads, *rows)
    )


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "-" if value is None else value


def _print_one(name: str, as_json: bool) -> int:
    from ..samplers import find, get, names

    if name not in names():
        known = [alias for alias in find(name) if alias == name]
        if known:
            return _print_aliases(name, as_json)
        get(name)  # raises, with the nearest match
    what = summary(name)
    if as_json:
        print(json.dumps(plain_option(what), allow_nan=False))
        return 0
    print(f"{name}: {what['summary']}")
    if what["order_guided"] is not None:
        what["order"] = f"{what['order_guided']} ({_cell(what['order'])} without guidance)"
    for key in ("family", "order", "stochastic", "nfe_per_step", "form", "source"):
        print(f"  {key.replace('nfe_per_step', 'nfe/step'):<11} {_cell(what[key])}")
    _print_pairs("options", {key: repr(value) for key, value in what["options"].items()})
    _print_pairs("aliases", what["aliases"])
    return 0


def _print_pairs(head: str, pairs: Mapping[str, str]) -> None:
    print(f"  {head}" if pairs else f"  {head:<11} none")
    width = max(map(len, pairs), default=0)
    for key, value in pairs.items():
        print(f"    {key:<{width}}  {value}".rstrip())


def _print_aliases(text: str, as_json: bool) -> int:
    from ..checks import unknown
    from ..samplers import ALIASES, SamplerError, find, names

    found: Mapping[str, Alias] = find(text)
    own = [name for name in names() if text.lower() in name]
    if not found and not own:
        raise SamplerError(unknown("name", text, [*ALIASES, *names()]))
    if as_json:
        rows = {
            alias: dict(zip(("sampler", "options", "grid", "note"), entry, strict=True))
            for alias, entry in found.items()
        }
        print(json.dumps(plain_option({"samplers": own, "aliases": rows}), allow_nan=False))
        return 0
    if own:
        print(f"samplers here: {', '.join(own)}")
    if found:
        cells = [
            [alias, e.sampler, option_text(e.options) or "-", e.grid or "-", e.note]
            for alias, e in found.items()
        ]
        print(table(("name", "sampler", "options", "grid", "note"), cells))
    return 0

"""``fewstep certify``: declared, walked and measured order of samplers, as a table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ..checks import ArgumentError
from ..jobs.settings import plain_option
from .certify_tables import DIFFUSERS, TABLES, Table, title
from .options import parse_options
from .progress import bar

NAME = "certify"
HELP = (
    "measure the order of samplers against exact solutions; exit code 5 if a declared order is "
    "missed"
)
MISSED = 5

Case = tuple[str, dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``fewstep certify``."""
    parser.add_argument(
        "samplers",
        nargs="*",
        metavar="SAMPLER",
        help="names of `fewstep samplers`: defaults and certified variants",
    )
    parser.add_argument(
        "--all", action="store_true", help="every sampler; with --diffusers a set of its classes"
    )
    parser.add_argument(
        "-o",
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="these options only; repeatable",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--kinds",
        action="store_true",
        help="orders by the network's prediction, and rounding in fp32 and bf16",
    )
    what.add_argument(
        "--strong",
        action="store_true",
        help="strong orders of stochastic samplers on a Brownian path",
    )
    what.add_argument(
        "--diffusers",
        action="store_true",
        help="the names are diffusers' scheduler classes: their own code is measured",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="the page of the documentation")
    form.add_argument("--json", action="store_true", help="a JSON list")


def execute(args: argparse.Namespace) -> int:
    """Measure and print; exit code 5 if a sampler fails. Raises FewstepError for unknown names and
    options before anything is computed."""
    work = parts(args)
    found: list[tuple[Table, list[Any]]] = []
    for k, (table, cases) in enumerate(work):
        rows = _measured(table, cases)
        if args.json:
            found.append((table, list(rows)))
            continue
        if args.markdown:
            print(("\n" if k else "") + table.preface)
        elif k:
            print()
        line = (lambda row: f"| {' | '.join(row)} |") if args.markdown else partial(_padded, table)
        found.append((table, _print_rows(table, rows, line, dashes=args.markdown)))
    if args.json:
        print(
            json.dumps(
                plain_option([table.record(c) for table, rows in found for c in rows]),
                allow_nan=False,
            )
        )
    return 0 if all(table.passed(c) for table, rows in found for c in rows) else MISSED


def parts(args: argparse.Namespace) -> list[tuple[Table, list[Case]]]:
    """The requested tables with their cases; drivers have their own table."""
    options = parse_options(args.option)
    what = next(
        (name for name in ("kinds", "strong", "diffusers") if getattr(args, name)), "orders"
    )
    if what == "diffusers":
        return [(TABLES[what], foreign(args.samplers, args.all, options))]
    if what != "orders":
        cases = chosen(
            args.samplers, args.all, options, only_plans=True, only_stochastic=what == "strong"
        )
        # each kind of network takes as long as a certificate, so only defaults are measured
        if what == "kinds" and args.all:
            cases = [case for case in cases if not case[1]]
        return [(TABLES[what], cases)]
    cases = on_every_path(chosen(args.samplers, args.all, options))
    driven = drivers()
    split = [
        (TABLES["orders"], [c for c in cases if c[0] not in driven]),
        (TABLES["drivers"], [c for c in cases if c[0] in driven]),
    ]
    if args.all:
        from ..samplers.floors import FLOORS

        split.append((TABLES["floors"], [(name, {}) for name in FLOORS]))
    return [(table, rows) for table, rows in split if rows]


def on_every_path(cases: Sequence[Case]) -> list[Case]:
    """The cases, and each again on the further paths that its sampler is certified on."""
    from ..samplers import get

    return [
        (name, {**options, **({"on": path} if path else {})})
        for name, options in cases
        for path in ("", *get(name).on[1:])
    ]


def drivers() -> tuple[str, ...]:
    """The registered drivers."""
    from ..samplers import names

    return names("driver")


def foreign(classes: Sequence[str], everything: bool, options: Mapping[str, Any]) -> list[Case]:
    """The scheduler classes to measure."""
    if everything == bool(classes):
        raise ArgumentError(
            "--diffusers needs class names (for instance DEISMultistepScheduler), or --all"
        )
    return (
        list(DIFFUSERS)
        if everything
        else [(name, dict(options)) for name in dict.fromkeys(classes)]
    )


def chosen(
    samplers: Sequence[str],
    everything: bool,
    options: Mapping[str, Any],
    *,
    only_plans: bool = False,
    only_stochastic: bool = False,
) -> list[Case]:
    """The cases to certify: the given options, or the defaults and the variants."""
    from ..eval.certificates.strong_orders import no_strong_order
    from ..samplers import SamplerError, get, make_options, names

    if everything == bool(samplers):
        raise ArgumentError(
            "give the names of samplers, or --all"
            if not everything
            else "--all and names of samplers were given: one of them"
        )
    cases: list[Case] = []
    for name in names() if everything else dict.fromkeys(samplers):
        sampler = get(name)
        if sampler.form == "driver":
            if options:
                raise SamplerError(
                    f"{name} is a driver: its certificate is that of its defaults, without "
                    f"{dict(options)}"
                )
            cases.extend([] if only_plans else [(name, {})])
            continue
        for variant in (options,) if options else ({}, *sampler.variants):
            made = make_options(sampler, variant)  # raises for an unknown option
            if not (only_stochastic and no_strong_order(name, made)):
                cases.append((name, dict(variant)))
    if not cases:
        raise SamplerError(
            f"{', '.join(samplers)}: nothing of this kind can be measured (drivers have "
            "no fixed plan)"
        )
    return cases


def _measured(table: Table, cases: Sequence[Case]) -> Iterator[Any]:
    """Certificates one by one, with a progress bar that is cleared before each is printed."""
    progress = bar(len(cases), "certificate", leave=False)
    try:
        for name, options in cases:
            progress.set_postfix_str(title(name, options))
            found = table.measure(name, options)
            progress.update()
            progress.clear()
            yield found
    finally:
        progress.close()


def _print_rows(
    table: Table, rows: Iterator[Any], line: Callable[[Sequence[str]], str], *, dashes: bool = False
) -> list[Any]:
    print(line(table.heads))
    if dashes:
        print("|---" * len(table.heads) + "|", flush=True)
    found = []
    for c in rows:
        found.append(c)
        print(line(table.cells(c)), flush=True)
    return found


def _padded(table: Table, row: Sequence[str]) -> str:
    return "  ".join(
        cell.ljust(width) for cell, width in zip(row, table.widths, strict=True)
    ).rstrip()

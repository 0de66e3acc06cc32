"""``fewstep certify``: declared, walked and measured order of samplers, as a table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .options import option_text, parse_options

if TYPE_CHECKING:
    from ..eval import Certificate

NAME = "certify"
HELP = "measure the order of samplers against exact solutions; exit code 5 when one misses what it declares"
MISSED = 5
HEADS = ("sampler", "declared", "walked", "measured", "constant", "NFE", "consistency", "verdict")
#: of the text table, whose rows are printed before the next one is known
WIDTHS = (46, 8, 7, 8, 9, 7, 11, 7)
PREFACE = """# Order certificates

What every sampler declares, and what was found: the order walked without a network, and the slope of the error against exact solutions
(a mixture for deterministic samplers, the law of Gaussian data for stochastic ones, whose orders are weak orders) over the finest three
step counts whose error is above rounding. The constant is the error at the finest of them times N^declared. NFE is the number of network
calls of 10 steps to sigma = 0, predicted = counted. A verdict is `pass` where all orders are within 0.15 of the declared one (0.25 above
order 3) and the calls agree; the walked order of a stochastic sampler may be higher. This page is made by

    fewstep certify --all --markdown > docs/certificates.md
"""

Case = tuple[str, dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``fewstep certify``."""
    parser.add_argument("samplers", nargs="*", metavar="SAMPLER", help="names of `fewstep samplers`: defaults and certified variants")
    parser.add_argument("--all", action="store_true", help="every sampler that has a fixed plan")
    parser.add_argument("-o", "--option", action="append", default=[], metavar="KEY=VALUE", help="these options only; repeatable")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="the page of the documentation")
    form.add_argument("--json", action="store_true", help="a JSON list")


def execute(args: argparse.Namespace) -> int:
    """Measure and print; 5 when one misses. ValueError for unknown names and options, before anything is computed."""
    cases = chosen(args.samplers, args.all, parse_options(args.option))
    rows = _measured(cases)
    if args.json:
        found = list(rows)
        print(json.dumps([record(c) for c in found], allow_nan=False))
    elif args.markdown:
        print(PREFACE)
        found = _print_rows(rows, lambda row: f"| {' | '.join(row)} |", dashes=True)
    else:
        found = _print_rows(rows, _padded)
    return 0 if all(c.passed for c in found) else MISSED


def chosen(samplers: Sequence[str], everything: bool, options: Mapping[str, Any]) -> list[Case]:
    """What to certify: the given options, or the defaults and the variants. Drivers have no plan and are left out."""
    from ..samplers import SamplerError, get, make_options, names

    if everything == bool(samplers):
        raise ValueError(
            "give the names of samplers, or --all" if not everything else "--all and names of samplers were given: one of them"
        )
    cases: list[Case] = []
    for name in names() if everything else dict.fromkeys(samplers):
        sampler = get(name)
        if sampler.form == "driver":
            continue
        for variant in (options,) if options else ({}, *sampler.variants):
            make_options(sampler, variant)  # refuses what it does not have
            cases.append((name, dict(variant)))
    if not cases:
        raise SamplerError(f"{', '.join(samplers)}: drivers have no fixed plan and no certificate")
    return cases


def record(c: Certificate) -> dict[str, Any]:
    """A certificate as strict JSON: infinities and NaN are strings."""
    numbers = {key: getattr(c, key) for key in ("declared", "walked", "measured", "error_constant")}
    out: dict[str, Any] = {"sampler": c.name, "options": dict(c.options), "stochastic": c.stochastic}
    out |= {key: value if abs(value) < float("inf") else str(value) for key, value in numbers.items()}
    out |= {"nfe": c.nfe, "counted": c.counted, "consistency": c.consistency, "tolerance": c.tolerance, "passed": c.passed}
    return {**out, "errors": [list(pair) for pair in c.errors]}


def cells(c: Certificate) -> tuple[str, ...]:
    """One row of the table."""
    numbers = (f"{c.declared:g}", f"{c.walked:.2f}", f"{c.measured:.2f}", f"{c.error_constant:.2e}")
    calls = str(c.nfe) if c.nfe == c.counted else f"{c.nfe} != {c.counted}"
    return (f"{c.name} {option_text(c.options)}".rstrip(), *numbers, calls, c.consistency, "pass" if c.passed else "FAIL")


def _measured(cases: Sequence[Case]) -> Iterator[Certificate]:
    """Certificates one by one; what is being measured is said on stderr if that is a terminal."""
    from ..eval import certify

    tell = sys.stderr.isatty()
    for k, (name, options) in enumerate(cases, 1):
        if tell:
            print(f"\r\x1b[K{k}/{len(cases)} {name} {option_text(options)}", end="", file=sys.stderr, flush=True)
        certificate = certify(name, **options)
        if tell:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        yield certificate


def _print_rows(rows: Iterator[Certificate], line: Callable[[Sequence[str]], str], *, dashes: bool = False) -> list[Certificate]:
    print(line(HEADS))
    if dashes:
        print("|---" * len(HEADS) + "|", flush=True)
    found = []
    for c in rows:
        found.append(c)
        print(line(cells(c)), flush=True)
    return found


def _padded(row: Sequence[str]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, WIDTHS, strict=True)).rstrip()

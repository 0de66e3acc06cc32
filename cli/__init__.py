"""The command line: generate, solve, invert, score, ref, bench, tune, train, plan, samplers,
certify. It parses, calls the library and prints.

Results go to stdout, progress to stderr, and only if that is a terminal. Exit codes: 0 ok, 2 usage,
3 bad input or model, 4 numerical failure, 5 a gate failed, 130 interrupted, 143 terminated; 1 is a
bug, with a traceback. ``--traceback`` shows it for every error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from .. import __version__
from ..checks.commands import guarded
from .parsing import Parser

COMMANDS = (
    "generate",
    "solve",
    "invert",
    "score",
    "ref",
    "bench",
    "tune",
    "train",
    "plan",
    "samplers",
    "certify",
)


def parsers() -> tuple[Parser, dict[str, Parser]]:
    """The whole command line, and the parser of each command."""
    whole = Parser(prog="fewstep", description="Samplers for diffusion and flow models, as data.")
    whole.add_argument("--version", action="version", version=f"fewstep {__version__}")
    _add_traceback(whole)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    found: dict[str, Parser] = {}
    for name in COMMANDS:
        module = import_module(f".{name}", __name__)
        sub = found[name] = commands.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
        _add_traceback(sub)
        sub.set_defaults(execute=module.execute)
    return whole, found


def _add_traceback(parser: Parser) -> None:
    parser.add_argument(
        "--traceback",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show where an error was raised",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error is one line on stderr.

    Without ``argv`` the command is that of the process.
    """
    shown = "--traceback" in (sys.argv[1:] if argv is None else argv)
    return guarded(lambda: run_command(argv), "fewstep", process=argv is None, show_traceback=shown)


def run_command(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are raised."""
    whole, commands = parsers()
    args = whole.parse(argv, commands)
    code: int = args.execute(args)
    return code

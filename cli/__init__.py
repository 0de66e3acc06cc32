"""The command line: generate, score, ref, bench, plan, samplers, certify. Thin: it parses, calls
the library, prints.

Results go to stdout, progress to stderr and only where that is a terminal. Exit codes: 0 ok, 2
usage, 3 bad input or model, 4 numerical failure, 5 a gate failed, 130 interrupted, 143 terminated;
1 is a fault of fewstep itself, with a traceback.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from .. import __version__
from ..checks.commands import guarded

COMMANDS = ("generate", "score", "ref", "bench", "plan", "samplers", "certify")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    p = argparse.ArgumentParser(
        prog="fewstep", description="Samplers for diffusion and flow models, as data."
    )
    p.add_argument("--version", action="version", version=f"fewstep {__version__}")
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f".{name}", __name__)
        sub = commands.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
        sub.set_defaults(execute=module.execute)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. What is wrong is said on stderr in one line.

    Without ``argv`` the command is that of the process.
    """
    return guarded(lambda: run(argv), "fewstep", process=argv is None)


def run(argv: Sequence[str] | None = None) -> int:
    """``main`` with its errors as exceptions."""
    args = parser().parse_args(argv)
    code: int = args.execute(args)
    return code

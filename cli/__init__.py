"""The command line: generate, score, ref, bench, plan, samplers, certify. Thin: it parses, calls the library, prints.

Results go to stdout, progress to stderr and only where that is a terminal. Exit codes: 0 ok, 2 usage, 3 bad input or model,
4 numerical failure, 5 a gate failed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from .. import __version__

COMMANDS = ("generate", "score", "ref", "bench", "plan", "samplers", "certify")

OK, USAGE, BAD_INPUT, NUMERICAL, GATE = 0, 2, 3, 4, 5


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    p = argparse.ArgumentParser(prog="fewstep", description="Samplers for diffusion and flow models, as data.")
    p.add_argument("--version", action="version", version=f"fewstep {__version__}")
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f".{name}", __name__)
        sub = commands.add_parser(name, help=module.HELP, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(sub)
        sub.set_defaults(execute=module.execute)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. What is wrong is said on stderr in one line."""
    try:
        args = parser().parse_args(argv)
    except SystemExit as stop:  # argparse has said what is wrong
        return stop.code if isinstance(stop.code, int) else USAGE
    try:
        code: int = args.execute(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe has gone: nothing is wrong, and nothing more can be said
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except ArithmeticError as error:
        return _complain(error, NUMERICAL)
    except (ValueError, OSError, TypeError) as error:
        return _complain(error, BAD_INPUT)
    except KeyboardInterrupt:
        return _complain("interrupted; run the same command again to go on", 130)
    return code


def _complain(what: object, code: int) -> int:
    print(f"fewstep: error: {what}", file=sys.stderr)
    return code

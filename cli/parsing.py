"""argparse with suggestions: a mistyped flag, command or choice names the nearest one."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors name the nearest flag, command or choice."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and ``message``, with the nearest of its choices; exit with code 2."""
        found = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if found:
            choices = re.findall(r"[\w.-]+", found[2])
            message += nearest(found[1], choices)
        super().error(message)

    def flags(self) -> list[str]:
        """The long flags of this parser."""
        return [flag for flag in self._option_string_actions if flag.startswith("--")]

    def parse(self, argv: Sequence[str] | None, commands: dict[str, Parser]) -> argparse.Namespace:
        """Parse the command line; an unknown flag is an error of its command, with the nearest
        flag."""
        args, rest = self.parse_known_args(argv)
        if rest:
            command = commands[args.command]
            unknown = [part for part in rest if part.startswith("-")]
            hints = "".join(nearest(part.partition("=")[0], command.flags()) for part in unknown)
            command.error(f"unrecognized arguments: {' '.join(rest)}{hints}")
        return args


def nearest(name: str, choices: Sequence[str]) -> str:
    """``; did you mean X?``, empty if no choice is near."""
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""

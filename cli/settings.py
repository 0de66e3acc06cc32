"""Settings from a file and from flags: ``--config file.yaml`` gives defaults, flags override them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checks import ArgumentError, unknown


def read_config(path: str | Path) -> dict[str, Any]:
    """A mapping from a YAML (or JSON) file. ValueError where it is none."""
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{str(path)!r} is not readable YAML: {error}") from error
    if not isinstance(found, dict):
        raise ArgumentError(f"{str(path)!r} holds a {type(found).__name__}; wanted are settings, one `name: value` a line")
    return {str(key).replace("-", "_"): value for key, value in found.items()}


def resolve(args: argparse.Namespace, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of ``defaults``: the flag where one was given (not None), else the file's value, else the default."""
    file = read_config(args.config) if args.config else {}
    for key in file:
        if key not in defaults:
            raise ArgumentError(f"{args.config}: {unknown('setting', key, defaults)}")
    flags = {key: getattr(args, key) for key in defaults if getattr(args, key, None) is not None}
    return {**defaults, **file, **flags}


def parse_seeds(text: str | int) -> tuple[int, ...]:
    """``"0-63"``, ``"5"``, ``"1,4,10-12"``: seeds in the order written. ValueError for anything else and for a seed named twice."""
    seeds: list[int] = []
    for part in str(text).split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ArgumentError(f"seeds {text!r}: wanted numbers and ranges, such as 0-63 or 1,4,10-12; {part!r} is none")
        low, high = int(first), int(last) if dash else int(first)
        if high < low:
            raise ArgumentError(f"seeds {text!r}: the range {part!r} runs backwards")
        seeds.extend(range(low, high + 1))
    if len(set(seeds)) != len(seeds):
        raise ArgumentError(f"seeds {text!r}: a seed is named twice")
    return tuple(seeds)


def parse_size(text: str | int | None) -> int | tuple[int, int] | None:
    """``"64"``, ``"64x96"`` (height, width) or None. ValueError for anything else."""
    if text is None:
        return None
    numbers = str(text).split("x")
    if len(numbers) > 2 or not all(n.isdecimal() and int(n) > 0 for n in numbers):
        raise ArgumentError(f"--size {text!r}: wanted height and width, such as 64 or 64x96")
    return int(numbers[0]) if len(numbers) == 1 else (int(numbers[0]), int(numbers[1]))

"""Settings from a file and from flags: ``--config file.yaml`` gives defaults, flags override them;
each value is checked by its name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from ..checks import ArgumentError, choice, flag, integer, number, shown, unknown
from .config_file import read_config as read_config
from .options import option_value

#: where a run's memory or patience ends long before these numbers do
MOST_SEEDS, MOST_STEPS, MOST_RESAMPLES, MOST_SIZE = 10_000_000, 100_000, 1_000_000, 1 << 16
FORMATS, FINALS = ("png", "npz"), ("zero", "sigma_min")

Check = Callable[[str, Any], Any]


def resolve(args: argparse.Namespace, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of ``defaults``: the flag where one was given (not None), else the file's
    value, else the default.

    A value of the file that is null counts as not given. ArgumentError for a name that is no
    setting, and for a value that is none of its setting's, with the nearest match.
    """
    file = read_config(args.config) if args.config else {}
    for key in file:
        if key not in defaults:
            raise ArgumentError(f"{args.config}: {unknown('setting', key, defaults)}")
    try:
        said = {key: checked(key, value) for key, value in file.items() if value is not None}
    except ArgumentError as error:
        raise ArgumentError(f"{args.config}: {error}") from None
    flags = {
        key: checked(key, getattr(args, key))
        for key in defaults
        if getattr(args, key, None) is not None
    }
    return {**defaults, **said, **flags}


def checked(key: str, value: Any) -> Any:
    """``value`` if the setting ``key`` takes it, in its plain form. ArgumentError otherwise."""
    return CHECKS[key](key, value) if key in CHECKS else value


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ArgumentError(f"{key}={shown(value)}: a text is wanted")
    return value


def _text_or_number(key: str, value: Any) -> str | int:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ArgumentError(f"{key}={shown(value)}: a text or a whole number is wanted")
    return value


def _options(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ArgumentError(
            f"{key}={shown(value)}: wanted are the sampler's options by name, as {{order: 3}}"
        )
    return {
        _text(f"the name of an {key}", name): option_value(str(name), item)
        for name, item in value.items()
    }


def _metrics(key: str, value: Any) -> Any:
    parts = value if isinstance(value, list | tuple) else [value]
    return (
        [_text(key, part) for part in parts]
        if parts and isinstance(value, list | tuple)
        else _text(key, value)
    )


def _integer(low: int, high: int | None = None) -> Check:
    def check(key: str, value: Any) -> int:
        found = integer(key, _shown_if_odd(key, value), low)
        if high is not None and found > high:
            raise ArgumentError(f"{key}={shown(found)}: at most {high} is taken")
        return found

    return check


def _number(low: float, high: float) -> Check:
    return lambda key, value: number(key, _shown_if_odd(key, value), low, high)


def _shown_if_odd(key: str, value: Any) -> Any:
    """A value that can be printed whole; ArgumentError for one that is no single value."""
    if isinstance(value, list | tuple | dict | set):
        raise ArgumentError(f"{key}={shown(value)}: a single number is wanted")
    return value


def _one_of(*allowed: str) -> Check:
    return lambda key, value: choice(
        key, value if isinstance(value, str) else shown(value), allowed
    )


#: what a setting takes, by its name; one name means one thing in every command
CHECKS: Mapping[str, Check] = {
    **dict.fromkeys(
        (
            "model",
            "sampler",
            "grid",
            "cond",
            "device",
            "source",
            "ref",
            "extractor",
            "held_out",
            "note",
        ),
        _text,
    ),
    **dict.fromkeys(("seeds", "labels", "size"), _text_or_number),
    **dict.fromkeys(("steps", "nfe"), _integer(1, MOST_STEPS)),
    **dict.fromkeys(("batch", "keep", "pairs"), _integer(1)),
    "resamples": _integer(0, MOST_RESAMPLES),
    "seed": _integer(0, 2**63 - 1),
    "level": _number(0.0, 1.0),
    "final": _one_of(*FINALS),
    "format": _one_of(*FORMATS),
    "option": _options,
    "metrics": _metrics,
    **dict.fromkeys(
        ("features", "skip_corrupt", "allow_mismatch"),
        lambda key, value: flag(key, _shown_if_odd(key, value)),
    ),
}


def parse_seeds(text: str | int) -> tuple[int, ...]:
    """``"0-63"``, ``"5"``, ``"1,4,10-12"``: seeds in the order written. ArgumentError for anything
    else, for a seed named twice, for one of more than 64 bits, and for more than ``MOST_SEEDS``."""
    ranges: list[range] = []
    for part in str(text).split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_seed(first) or (dash and not _is_seed(last)):
            raise ArgumentError(
                f"seeds {_cut(text)!r}: wanted numbers and ranges, such as 0-63 or "
                f"1,4,10-12; {_cut(part)!r} is none"
            )
        low, high = int(first), int(last) if dash else int(first)
        if high < low:
            raise ArgumentError(f"seeds {_cut(text)!r}: the range {part!r} runs backwards")
        if high >= 2**64:
            raise ArgumentError(
                f"seeds {_cut(text)!r}: {high} has more than 64 bits; the largest seed is "
                f"{2**64 - 1}"
            )
        ranges.append(range(low, high + 1))
    if (count := sum(seeds.stop - seeds.start for seeds in ranges)) > MOST_SEEDS:
        raise ArgumentError(
            f"seeds {_cut(text)!r}: {count} samples; at most {MOST_SEEDS} are drawn by one "
            "command, so cut the range"
        )
    ordered = sorted(ranges, key=lambda seeds: seeds.start)
    if any(a.stop > b.start for a, b in pairwise(ordered)):
        raise ArgumentError(f"seeds {_cut(text)!r}: a seed is named twice")
    return tuple(seed for seeds in ranges for seed in seeds)


def _is_seed(text: str) -> bool:
    """Whether a text is a number that may be read; Python refuses to read thousands of digits."""
    return text.isdecimal() and len(text) < 100


def _cut(text: object) -> str:
    """A text, shortened for a message."""
    found = str(text)
    return found if len(found) <= 80 else f"{found[:77]}..."


def parse_size(text: str | int | None) -> int | tuple[int, int] | None:
    """``"64"``, ``"64x96"`` (height, width) or None. ArgumentError for anything else, and beyond
    ``MOST_SIZE``."""
    if text is None:
        return None
    numbers = str(text).split("x")
    if len(numbers) > 2 or not all(_is_seed(n) and 0 < int(n) <= MOST_SIZE for n in numbers):
        raise ArgumentError(
            f"--size {_cut(text)!r}: wanted height and width, such as 64 or 64x96, of at "
            f"most {MOST_SIZE}"
        )
    return int(numbers[0]) if len(numbers) == 1 else (int(numbers[0]), int(numbers[1]))

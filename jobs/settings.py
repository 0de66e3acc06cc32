"""Checks of settings: each value by the name of its setting, for functions, flags and files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

from ..checks import ArgumentError, choice, flag, integer, number, plain, shown
from ..checks.durations import duration

#: limits far beyond what a run can hold or wait for
MOST_SEEDS, MOST_STEPS, MOST_RESAMPLES, MOST_SIZE = 10_000_000, 100_000, 1_000_000, 1 << 16
FORMATS, FINALS = ("png", "npz"), ("zero", "sigma_min")

#: how deep a list may stand in a list
DEEPEST = 3

Check = Callable[[str, Any], Any]


def checked(key: str, value: Any) -> Any:
    """``value`` in its plain form. Raises ArgumentError if the setting ``key`` does not take it."""
    return CHECKS[key](key, value) if key in CHECKS else value


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ArgumentError(f"{key}={shown(value)}: must be a text")
    return value


def _text_or_number(key: str, value: Any) -> str | int:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ArgumentError(f"{key}={shown(value)}: must be a text or an integer")
    return value


def _options(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ArgumentError(f"{key}={shown(value)}: must be options by name, as {{order: 3}}")
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


def _integers(key: str, value: Any) -> list[int]:
    parts = value if isinstance(value, list | tuple) else [value]
    return [integer(key, _shown_if_odd(key, part), 1) for part in parts]


def _integer(low: int, high: int | None = None) -> Check:
    def check(key: str, value: Any) -> int:
        found = integer(key, _shown_if_odd(key, value), low)
        if high is not None and found > high:
            raise ArgumentError(f"{key}={shown(found)}: must be at most {high}")
        return found

    return check


def _number(low: float, high: float) -> Check:
    return lambda key, value: number(key, _shown_if_odd(key, value), low, high)


def _shown_if_odd(key: str, value: Any) -> Any:
    """``value``; raises ArgumentError for a container."""
    if isinstance(value, list | tuple | dict | set):
        raise ArgumentError(f"{key}={shown(value)}: must be a single number")
    return value


def _one_of(*allowed: str) -> Check:
    return lambda key, value: choice(
        key, value if isinstance(value, str) else shown(value), allowed
    )


def _interval(key: str, value: Any) -> tuple[float, float]:
    """Two noise levels: a list, or a text such as ``"0.2,2"``."""
    parts = value.split(",") if isinstance(value, str) else value
    try:
        low, high = (float(part) for part in parts)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{key}={shown(value)}: must be two noise levels rho = sigma / alpha, such as 0.2,2"
        ) from None
    return low, high


def _numbers(count: int) -> Check:
    """A mapping of names to one number, or to tuples of ``count`` numbers."""

    def check(key: str, value: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, item in _options(key, value).items():
            parts = item if isinstance(item, tuple) else (item,)
            if len(parts) != count:
                raise ArgumentError(f"{key} {name}={shown(item)}: must be {count} numbers")
            numbers = tuple(float(number(f"{key} {name}", part)) for part in parts)
            found[name] = numbers if count > 1 else numbers[0]
        return found

    return check


def _file_or_count(key: str, value: Any) -> str | int:
    return integer(key, value, 1) if not isinstance(value, str) else _text(key, value)


#: check of each setting by its name; a name means the same in every command
CHECKS: Mapping[str, Check] = {
    **dict.fromkeys(
        (
            "model",
            "guidance",
            "steer",
            "reward",
            "sampler",
            "grid",
            "cond",
            "device",
            "source",
            "ref",
            "extractor",
            "held_out",
            "note",
            "physics",
            "truth",
            "what",
            "loss",
            "task",
            "operator",
            "method",
            "measurement",
            "lpips",
        ),
        _text,
    ),
    **dict.fromkeys(("seeds", "labels", "size"), _text_or_number),
    **dict.fromkeys(("steps", "nfe"), _integer(1, MOST_STEPS)),
    **dict.fromkeys(
        ("batch", "keep", "pairs", "particles", "trajectories", "test", "fine_steps"), _integer(1)
    ),
    "nfes": _integers,
    "budget": duration,
    "resamples": _integer(0, MOST_RESAMPLES),
    **dict.fromkeys(("seed", "noise_seed"), _integer(0, 2**63 - 1)),
    "sigma_y": _number(0.0, 1e9),
    "level": _number(0.0, 1.0),
    "iterations": _integer(1, MOST_STEPS),
    "inversion": _text,
    "final": _one_of(*FINALS),
    "format": _one_of(*FORMATS),
    "guidance_scale": _number(-1e6, 1e6),
    "guidance_interval": _interval,
    **dict.fromkeys(
        ("option", "guidance_option", "steer_option", "task_option", "method_option", "param"),
        _options,
    ),
    **dict.fromkeys(("metrics", "fields"), _metrics),
    "spacing": _numbers(1),
    **dict.fromkeys(("field_map", "levels"), _numbers(2)),
    "data": _file_or_count,
    "threshold": _number(-1.0, 1.0),
    **dict.fromkeys(
        ("features", "skip_corrupt", "allow_mismatch"),
        lambda key, value: flag(key, _shown_if_odd(key, value)),
    ),
}


def option_value(key: str, value: Any, depth: int = 0) -> Any:
    """A sampler's option as it is: a number, a word, True, False, None, or a tuple of them (a list
    becomes a tuple). Raises ArgumentError for anything else."""
    if isinstance(value, list | tuple) and depth < DEEPEST:
        return tuple(option_value(key, item, depth + 1) for item in value)
    value = plain(value)
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ArgumentError(
            f"option {key!r}: must be a number, a word, True, False or a list of them, not "
            f"{type(value).__name__}"
        )
    return value


def plain_option(value: Any) -> Any:
    """A value as strict JSON has it: numbers that are not finite as words, tuples as lists."""
    if isinstance(value, Mapping):
        return {key: plain_option(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_option(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def read_option(value: Any) -> Any:
    """The inverse of ``plain_option`` for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {key: read_option(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [read_option(item) for item in value]
    return float(value) if value in ("inf", "-inf") else value


def seeds_text(seeds: str | int | Iterable[int]) -> str | int:
    """Seeds as ``parse_seeds`` reads them: ``range(64)`` is ``"0-63"``; a text or a number stays.
    Raises ArgumentError for anything but integers >= 0."""
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        text: str | int = checked("seeds", seeds)
        return text
    runs: list[list[int]] = []
    if isinstance(seeds, range) and seeds.step == 1 and seeds and seeds[0] >= 0:
        runs = [[seeds[0], seeds[-1]]]
    else:
        for value in seeds:
            seed = integer("a seed", value, 0)
            if runs and runs[-1][1] + 1 == seed:
                runs[-1][1] = seed
            else:
                runs.append([seed, seed])
    if not runs:
        raise ArgumentError("seeds: at least one is needed")
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def size_text(size: Any) -> str | int | None:
    """A size as ``parse_size`` reads it: ``(64, 96)`` is ``"64x96"``; anything else stays."""
    if isinstance(size, (list, tuple)) and len(size) == 2:
        return "x".join(str(integer("size", side, 1)) for side in size)
    return None if size is None else checked("size", size)


def labels_text(labels: Any) -> str | int:
    """Labels as ``labels_of`` reads them: ``[7, 1]`` is ``"7,1"``, None is ``"none"``; a text or a
    number stays."""
    if isinstance(labels, (list, tuple)) and labels:
        return ",".join(str(integer("a label", label, 0)) for label in labels)
    return "none" if labels is None else checked("labels", plain(labels))


def parse_seeds(text: str | int) -> tuple[int, ...]:
    """The seeds of ``"0-63"``, ``"5"`` or ``"1,4,10-12"`` in the order written.

    Raises ArgumentError for any other text, a duplicate seed, a seed of more than 64 bits, and more
    than ``MOST_SEEDS`` seeds.
    """
    ranges: list[range] = []
    for part in str(text).split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_seed(first) or (dash and not _is_seed(last)):
            raise ArgumentError(
                f"seeds {_cut(text)!r}: must be numbers and ranges, such as 0-63 or "
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
    """True for the digits of a number; Python refuses to read thousands of them."""
    return text.isdecimal() and len(text) < 100


def _cut(text: object) -> str:
    """A text, shortened for a message."""
    found = str(text)
    return found if len(found) <= 80 else f"{found[:77]}..."


def parse_size(text: str | int | None) -> int | tuple[int, int] | None:
    """The size ``"64"`` or ``"64x96"`` (height, width), or None. Raises ArgumentError for any other
    text and beyond ``MOST_SIZE``."""
    if text is None:
        return None
    numbers = str(text).split("x")
    if len(numbers) > 2 or not all(_is_seed(n) and 0 < int(n) <= MOST_SIZE for n in numbers):
        raise ArgumentError(
            f"size={_cut(text)!r}: must be height and width, such as 64 or 64x96, of at most "
            f"{MOST_SIZE}"
        )
    return int(numbers[0]) if len(numbers) == 1 else (int(numbers[0]), int(numbers[1]))

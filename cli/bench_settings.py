"""Settings of ``fewstep bench`` from a preset, a --config file and flags."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ..checks import ArgumentError, choice, shown, unknown
from .config_file import read_config

#: flag, setting of ``bench``, kind, help
Flag: TypeAlias = tuple[str, str, Any, str]
FLAGS: tuple[Flag, ...] = (
    ("--models", "models", "names", "bundled names, `mixture`, folders (default mnist)"),
    (
        "--samplers",
        "samplers",
        "choices",
        "names with options, as unipc:order=3 (default: auto, 14 deterministic ones, dpmpp_2m_sde)",
    ),
    (
        "--grids",
        "grids",
        "choices",
        "time grids, with options as karras:rho=5 (default auto karras)",
    ),
    ("--nfe", "nfes", "numbers", "budgets of network calls (default 5 8 10 20)"),
    ("--seeds", "n", int, "seeds of the solver error (default 64)"),
    ("--samples", "samples", int, "samples of the quality; 0: none (default 0)"),
    (
        "--top",
        "top",
        "top",
        "quality of that many rows of least solver error at each budget, or `all` (default 5)",
    ),
    (
        "--quality-nfe",
        "quality_nfes",
        "numbers",
        "budgets at which quality is measured (default: all)",
    ),
    ("--batch", "batch", int, "samples drawn together (default 64)"),
    (
        "--tolerance",
        "tolerance",
        float,
        "RMS change below which the reference is converged (default 1e-3; exact models 1e-8)",
    ),
    ("--labels", "labels", str, "classes: cycle (seed modulo classes) or none (default cycle)"),
    (
        "--features",
        "features",
        str,
        "bundled feature network of the quality (default: that of the model's name)",
    ),
    ("--resamples", "resamples", int, "bootstrap resamples of a Frechet distance (default 200)"),
    ("--final", "final", str, "where the grids end: zero or sigma_min (default zero)"),
)


def resolved(
    args: argparse.Namespace,
    taken: Sequence[Flag],
    presets: Mapping[str, Mapping[str, Any]],
    models: tuple[str, ...],
) -> dict[str, Any]:
    """Return the settings of ``taken`` and the models (default ``models``): preset, then file, then
    flags. ArgumentError for unknown names, with the nearest match."""
    file = {
        key: value
        for key, value in (read_config(args.config) if args.config else {}).items()
        if value is not None
    }
    preset = args.preset if args.preset is not None else file.get("preset")
    file.pop("preset", None)
    if preset is not None:
        choice("preset", preset if isinstance(preset, str) else shown(preset), presets)
    if args.budget is not None and args.nfes is not None:
        raise ArgumentError(
            f"--budget {args.budget} and --nfe {' '.join(args.nfes)}: give one of them"
        )
    flags = {flag[2:].replace("-", "_"): (name, kind) for flag, name, kind, _ in taken}
    found: dict[str, Any] = {"models": models, **(presets[preset] if preset else {})}
    for key, value in file.items():
        if key not in flags:
            raise ArgumentError(f"{args.config}: {unknown('setting', key, flags)}")
        name, kind = flags[key]
        found[name] = _value(key, value, kind)
    for key, (name, kind) in flags.items():
        if getattr(args, name) is not None:
            found[name] = _value(key, getattr(args, name), kind)
    if args.budget is not None:
        found["nfes"] = (args.budget,)
        found["quality_nfes"] = None
    return found


def _value(key: str, value: Any, kind: Any) -> Any:
    """A setting from a flag or a file: lists may be written with commas."""
    from ..eval.benchmark.settings import split_named

    if kind == "top":
        return None if value in (None, "all") else _number(key, value)
    if kind is float:
        return _real(key, value)
    if kind is int:
        return _number(key, value)
    if kind is str:
        return value if isinstance(value, str) else shown(value)
    items = value if isinstance(value, list | tuple) else [value]
    if odd := [
        item for item in items if isinstance(item, bool) or not isinstance(item, str | int | float)
    ]:
        raise ArgumentError(f"{key}: {shown(odd[0])} must be a name, a number or a list of them")
    parts = [piece for item in items for piece in split_named(str(item))]
    return tuple(parts) if kind != "numbers" else tuple(_number(key, part) for part in parts)


def _number(key: str, text: Any) -> int:
    try:
        if isinstance(text, str | int) and not isinstance(text, bool):
            return int(text)
    except ValueError:
        pass
    raise ArgumentError(f"{key}: {shown(text)} is not a whole number")


def _real(key: str, text: Any) -> float:
    try:
        if isinstance(text, str | int | float) and not isinstance(text, bool):
            return float(text)
    except (ValueError, OverflowError):
        pass
    raise ArgumentError(f"{key}: {shown(text)} is not a number")


def command_line(args: argparse.Namespace) -> str:
    """Return the command that measures the same again: the given flags without the folders."""
    parts = ["fewstep", "bench"]
    for flag, value in (
        ("--task", args.task),
        ("--preset", args.preset),
        ("--budget", args.budget),
        ("--config", args.config),
    ):
        parts += [flag, str(value)] if value is not None else []
    for flag, name, _, _ in FLAGS:
        value = getattr(args, name)
        if value is not None:
            parts += [flag, *(map(str, value) if isinstance(value, list) else [str(value)])]
    return shlex.join(parts)

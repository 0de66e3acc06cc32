"""``fewstep bench --task``: samplers compared on a model of physical fields."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..checks import ArgumentError, UsageError
from ..checks.commands import tell
from ..files import dumps, write
from .bench_settings import FLAGS, command_line, resolved

if TYPE_CHECKING:
    from ..eval.physics.tasks.settings import TaskSettings
    from ..models import BaseDenoiser, FieldMaps

#: settings that the comparison takes; the others of ``bench`` are refused
TAKEN = ("models", "samplers", "grids", "nfes", "samples", "batch", "final")


def execute_task(args: argparse.Namespace, report: Callable[[str], None]) -> int:
    """Measure, write OUT/task-NAME.md and .json, print the table or the record."""
    from ..eval.physics.tasks.runner import bench_task
    from ..eval.physics.tasks.table import record, table
    from ..eval.physics.tasks.task import task_named

    task = task_named(args.task)
    models, settings = task_settings(args, task.model)
    denoiser, maps = _placed(models, args.device)
    result = bench_task(args.task, denoiser, maps, settings=settings, report=report)
    found = record(result, command_line(args))
    text = table(result)
    paths = [args.out / f"task-{args.task}.{suffix}" for suffix in ("md", "json")]
    args.out.mkdir(parents=True, exist_ok=True)
    for path, content in zip(paths, (text, dumps(found)), strict=True):
        write(path, content.encode())
    print(dumps(found) if args.json else text, end="")
    for path in paths:
        tell(f"{path.suffix[1:]}: {path}")
    if all(row.measures is None for row in result.rows):
        raise ArgumentError(f"no row could be measured: {result.rows[0].skipped}")
    return 0


def task_settings(args: argparse.Namespace, model: str) -> tuple[tuple[str, ...], TaskSettings]:
    """Return the models and the settings: preset, then file, then flags. UsageError for flags that
    the comparison does not take."""
    from ..eval.physics.tasks.settings import PRESETS, TaskSettings

    flags = tuple(entry for entry in FLAGS if entry[1] in TAKEN)
    stray = [
        flag for flag, name, _, _ in FLAGS if name not in TAKEN and getattr(args, name) is not None
    ]
    stray += [
        flag
        for flag, value in (("--budget", args.budget), ("--cache", args.cache))
        if value is not None
    ]
    if stray:
        allowed = ", ".join(flag for flag, _, _, _ in flags)
        raise UsageError(f"--task takes no {', '.join(stray)}; allowed: {allowed}")
    found = resolved(args, flags, PRESETS, (model,))
    models: tuple[str, ...] = found.pop("models")
    return models, TaskSettings(**found)


def _placed(models: Sequence[str], device: str) -> tuple[BaseDenoiser, FieldMaps]:
    """Load the one model and its fields' maps; move its network to the device."""
    from ..jobs.devices import device_named, move
    from ..models import fields_of, load

    if len(models) != 1:
        raise UsageError(f"--models {' '.join(models)}: --task compares samplers on one model")
    denoiser = load(models[0])
    move(denoiser, device_named(device))
    return denoiser, fields_of(models[0])

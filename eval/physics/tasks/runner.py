"""``bench_task``: network calls against residual, error and distance, for samplers on a model of
physical fields."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....checks import FewstepError
from ....engine.automatic import facts_of
from ....engine.planning import Request
from ....engine.sampling import execute
from ....engine.start_states import start_state
from ....models.base import BaseDenoiser
from ....models.field_maps import FieldMaps, fields_of
from ....models.wrapper import complete
from ...benchmark.settings import fitted, grid_options, sampler_options
from ...benchmark.subject import blocks
from ...errors import ScoreError
from ..equation import Problem, equation_named
from ..rating.scores import FieldRating
from .measures import Reference
from .settings import REFERENCE_SEED, TaskSettings
from .task import Task, task_named


@dataclass(frozen=True)
class TaskRow:
    """One sampler on one grid with at most ``budget`` network calls.

    ``nfe`` calls were made, ``milliseconds`` is the wall time a sample; ``measures`` is None where
    the row was ``skipped``, with the reason.
    """

    sampler: str
    grid: str
    budget: int
    nfe: int | None = None
    milliseconds: float | None = None
    measures: Mapping[str, FieldRating] | None = None
    skipped: str | None = None

    def numbers(self) -> dict[str, Any]:
        """Return the columns of the row: of each measure its value and the interval's ends."""
        own = {key: value for key, value in vars(self).items() if key != "measures"}
        return own | numbers_of(self.measures or {})


def numbers_of(measures: Mapping[str, FieldRating]) -> dict[str, float | None]:
    """Return the value of each measure and the ends of its interval."""
    found: dict[str, float | None] = {}
    for name, rating in measures.items():
        found |= {name: rating.value, f"{name}_low": rating.low, f"{name}_high": rating.high}
    return found


@dataclass(frozen=True)
class TaskBench:
    """The result: ``rows``; ``data``, the measures of as many further data in float32, the
    baseline of every row; and the ``settings``."""

    task: str
    rows: tuple[TaskRow, ...]
    data: Mapping[str, FieldRating]
    settings: TaskSettings


def bench_task(
    name: str = "darcy",
    denoiser: BaseDenoiser | None = None,
    maps: FieldMaps | None = None,
    *,
    settings: TaskSettings | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> TaskBench:
    """Sample fields and measure how well they satisfy their equation.

    Args:
        name: of the task, see ``TASKS``.
        denoiser, maps: a model and its fields' maps (``models.fields_of``); default: the task's
            bundled model.
        settings: samplers, grids, budgets of network calls and sizes (default ``TaskSettings()``).
        report: called with a line of progress.

    A row is the largest plan that fits its budget; a case that fewstep refuses is a row that says
    why. Raises UnknownName and ScoreError before a network is called.
    """
    task = task_named(name)
    chosen = TaskSettings() if settings is None else settings
    model, fields = _model(task, denoiser, maps)
    size = _size(model, fields)
    equation = equation_named(task.equation)
    report(f"{name}: {chosen.reference + chosen.samples} solutions of the equation")
    data = equation.draw(chosen.reference, size, REFERENCE_SEED)
    reference = Reference(task, fields, data)
    rows = []
    cases = [(b, s, g) for b in chosen.nfes for s in chosen.samplers for g in chosen.grids]
    for k, (budget, sampler, grid) in enumerate(cases, 1):
        report(f"{name}: {k}/{len(cases)} {sampler} {grid} nfe={budget}")
        rows.append(_row(model, reference, chosen, sampler, grid, budget))
    more = equation.draw(chosen.samples, size, REFERENCE_SEED + chosen.reference)
    return TaskBench(name, tuple(rows), _baseline(reference, more), chosen)


def _model(
    task: Task, denoiser: BaseDenoiser | None, maps: FieldMaps | None
) -> tuple[BaseDenoiser, FieldMaps]:
    from ....models.loading import load

    if (denoiser is None) != (maps is None):
        raise ScoreError("denoiser and maps: give both or neither")
    if denoiser is None or maps is None:
        denoiser, maps = load(task.model), fields_of(task.model)
    if not {task.given, task.solution} <= set(maps.names):
        raise ScoreError(
            f"the model's fields {list(maps.names)}: the task {task.name!r} needs "
            f"{[task.given, task.solution]}"
        )
    return denoiser, maps


def _size(model: BaseDenoiser, maps: FieldMaps) -> int:
    """Points an axis of the model's samples."""
    shape = model.shape
    if shape is None or len(shape) != 3 or shape[0] != len(maps.names) or shape[1] != shape[2]:
        raise ScoreError(
            f"samples of shape {shape}: must be ({len(maps.names)}, n, n), one channel a field"
        )
    return int(shape[1])


def _baseline(reference: Reference, more: Problem) -> dict[str, FieldRating]:
    """Measures of solutions stored in float32."""
    stored = {name: value.float().double() for name, value in more.fields.items()}
    return reference.ratings(reference.maps.channels(stored))


def _row(
    model: BaseDenoiser,
    reference: Reference,
    settings: TaskSettings,
    sampler: str,
    grid: str,
    budget: int,
) -> TaskRow:
    try:
        asked = fitted(
            sampler_options(sampler),
            grid_options(grid),
            model.schedule,
            budget,
            settings.final,
            facts_of(complete(model)),
        )
        began = time.perf_counter()
        x, nfe = draw(model, asked, settings.samples, settings.batch)
    except FewstepError as error:
        return TaskRow(sampler, grid, budget, skipped=str(error))
    spent = 1e3 * (time.perf_counter() - began) / settings.samples
    return TaskRow(sampler, grid, budget, nfe, spent, reference.ratings(x))


def draw(model: BaseDenoiser, asked: Request, samples: int, batch: int) -> tuple[Tensor, int]:
    """Return samples of the seeds 0, 1, ... on the host, and the network calls of a block."""
    parts, nfe = [], 0
    for seeds in blocks(range(samples), batch):
        x = start_state(model, asked.grid[0], seeds)
        out, info = execute(asked, model, x, seeds=seeds)
        parts.append(out.cpu())
        nfe = max(nfe, info.nfe)
    return torch.cat(parts), nfe

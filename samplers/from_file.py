"""Samplers that are files: ``"file:PATH"`` is the plan that ``fewstep.tune`` saved at PATH.

Such a sampler has one plan on one grid, its own. It takes one option: ``force``, which uses the
plan on another model or schedule than it was tuned for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..plans.builder import PlanBuilder
from ..plans.plan import Plan
from ..plans.plan_file import PlanFile, read_plan_file
from ..schedules.base import Schedule
from ..schedules.grids.construction import Grid
from .registry import Sampler, SamplerError, make_options, register_prefix

PREFIX = "file:"


@dataclass(frozen=True)
class FileOptions:
    """``force``: use the plan on a model or schedule that it was not tuned for."""

    force: bool = False


def is_file(sampler: object) -> bool:
    """Whether the name ``sampler`` is that of a file."""
    return isinstance(sampler, str) and sampler.startswith(PREFIX)


def plan_file(sampler: str) -> PlanFile:
    """The content of the file that ``sampler`` names. PlanError for a file that is none."""
    return read_plan_file(sampler.removeprefix(PREFIX))


def file_options(sampler: str, given: Mapping[str, Any]) -> FileOptions:
    """The options of a file. SamplerError for others than ``force``."""
    if "afs" in given:
        raise SamplerError(f"{sampler}: a tuned plan has its own first step; leave afs= out")
    made: FileOptions = make_options(file_sampler(sampler), given)
    return made


def file_grid(sampler: str, schedule: Schedule, steps: int | None = None) -> Grid:
    """The grid of a plan file. SamplerError for another number of ``steps`` than it has."""
    plan = plan_file(sampler).plan
    if steps not in (None, plan.steps):
        raise SamplerError(
            f"{sampler} is a plan of {plan.steps} steps ({plan.nfe} network calls), not of {steps}"
        )
    return Grid.from_nodes(plan.nodes, schedule)


def file_sampler(name: str) -> Sampler:
    """The plan file ``name`` as a sampler. PlanError for a file that is none."""
    plan = plan_file(name).plan

    def build(builder: PlanBuilder, grid: Grid, options: FileOptions) -> Plan:
        """The plan of a file."""
        if grid.nodes != plan.nodes:
            raise SamplerError(
                f"{name} is a plan of {plan.steps} steps with its own times: it has no plan on "
                "another grid, and none that begins in the middle"
            )
        return plan

    return Sampler(
        name,
        build,
        FileOptions,
        1,
        "fewstep.tune",
        tau=1.0 if plan.stochastic else 0.0,
        allow=plan.exactness,
        alpha_zero=True,
        channels=plan.channels,
        walks=False,
    )


register_prefix(PREFIX, file_sampler)

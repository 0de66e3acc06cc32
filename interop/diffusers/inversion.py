"""The plans of diffusers' inverse schedulers, from data to noise.

DDIMInverseScheduler                 each step leads from level s to level t with the prediction
                                     asked at the label t for the state at s
DPMSolverMultistepInverseScheduler   DPM-Solver multistep on increasing levels
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, overload

import numpy as np
from torch import Tensor

from ...checks import ArgumentError, flag, integer, unknown
from ...engine.exact_inversion import error_of
from ...engine.inversion import InversionInfo
from ...engine.sampling import run
from ...models.denoiser import Denoiser
from ...models.wrapper import complete
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...plans.running.loop import StepState
from ...samplers import registry
from ...schedules.base import Schedule
from ...schedules.diffusers.classes import INVERSE, class_defaults
from ...schedules.diffusers.config import Settings
from ...schedules.diffusers.config import read as read_settings
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from .config import OWN, ConfigError, known
from .counterparts import counterpart
from .origin import source

Cond = Tensor | Mapping[str, Tensor] | None
#: called with the number of network calls made, and of all
Report = Callable[[int, int], None]


@overload
def invert(
    scheduler: Any, denoiser: Denoiser, x0: Tensor, steps: int, *, info: Literal[False] = ...,
    cond: Cond = ..., progress: Report | None = ...,
) -> Tensor: ...  # fmt: skip
@overload
def invert(
    scheduler: Any, denoiser: Denoiser, x0: Tensor, steps: int, *, info: Literal[True],
    cond: Cond = ..., progress: Report | None = ...,
) -> tuple[Tensor, InversionInfo]: ...  # fmt: skip
def invert(
    scheduler: Any,
    denoiser: Denoiser,
    x0: Tensor,
    steps: int,
    *,
    cond: Cond = None,
    progress: Report | None = None,
    info: bool = False,
) -> Tensor | tuple[Tensor, InversionInfo]:
    """Return the noise (B, *shape) that an inverse scheduler of diffusers finds for clean data
    ``x0`` (B, *shape) in ``set_timesteps(steps)``.

    Args:
        scheduler: a DDIMInverseScheduler or DPMSolverMultistepInverseScheduler, or its config.
        denoiser: the model, on the table of the config.
        cond: the condition, batch first.
        progress: called with the number of network calls made, and of all.
        info: also sample back through the same levels, with DDIM or the same DPM-Solver, and return
            an ``InversionInfo`` with the measured error of the reconstruction.

    Raises ConfigError as ``inverse_plan`` does, and ArgumentError for a model on another table.
    """
    served, info = _served(scheduler, steps), flag("info", info)
    model = complete(denoiser)
    served.check(model.schedule)
    plan = served.plan

    def report(step: StepState) -> None:
        if progress is not None:
            progress(step.nfe, plan.nfe)

    z = run(plan, model, x0, cond=cond, on_step=report)
    if not info:
        return z
    back = served.back()
    found = run(back, model, z, cond=cond)
    largest, errors = error_of(found, x0)
    return z, InversionInfo("reversed", plan.nfe, back, (), found, largest, errors)


def check_inverse(scheduler: Any, denoiser: Denoiser, steps: int | None) -> None:
    """Raise what ``invert`` would raise for these arguments, without a network call."""
    _served(scheduler, integer("steps", steps, 1)).check(complete(denoiser).schedule)


def inverse_plan(config: Any, steps: int) -> Plan:
    """The plan that gives what an inverse scheduler of diffusers, DDIMInverseScheduler or
    DPMSolverMultistepInverseScheduler, gives with ``set_timesteps(steps)``.

    ``fewstep.run(plan, denoiser, x0)`` returns the noise for clean data x0 (B, *shape). The result
    is that of diffusers up to its float32 tables.

    Args:
        config: the scheduler; or its ``config``, or the JSON of that as a dict, where
            ``_class_name`` names the class. Keys of other classes, which ``from_config`` takes over
            from the scheduler of a pipeline, change nothing, as in diffusers.
        steps: ``num_inference_steps``. With ``timestep_spacing="trailing"`` the last step of
            DPMSolverMultistepInverseScheduler has no length, and the plan is without it (diffusers
            gives NaN there with ``solver_type="heun"`` or third order).

    Raises ConfigError for other classes, unknown keys, and settings that have no plan: clipping and
    thresholding (which cannot be inverted), noise, and special levels (which repeat the largest).
    """
    return _served(config, steps).plan


@dataclass(frozen=True)
class _Served:
    """An inverse scheduler: the levels from data to noise, the sampler that goes back through them,
    and the plan."""

    name: str
    grid: Grid
    sampler: str
    options: Any
    plan: Plan

    def check(self, schedule: Schedule) -> None:
        """Raise ArgumentError unless ``schedule`` has the levels of the config."""
        for t, node in zip(self.grid.times, self.grid.nodes, strict=True):
            try:
                near = abs(float(schedule.alpha(t)) - node.alpha) < 1e-4
            except ArgumentError:
                near = False
            if not near and t >= 0.0:
                raise ArgumentError(
                    f"the model is on {schedule!r}, which has not the level of the {self.name} at "
                    f"t={t:g} (alpha={node.alpha:.6g}): give the model the table of the config"
                )

    def back(self) -> Plan:
        """The plan of the sampler from noise to data."""
        grid = self.grid
        ends = Grid(grid.schedule, grid.times[::-1], grid.nodes[::-1], grid.name)
        return registry.build(self.sampler, ends, self.options)


def _served(config: Any, steps: int) -> _Served:
    config, steps = source(config), integer("steps", steps, 1, 100_000)
    name = config.get("_class_name")
    if name is None:
        raise ConfigError(
            "the config names no class (_class_name): pass the scheduler itself in place of its "
            f"config, or add _class_name, one of {', '.join(INVERSE)}"
        )
    if name not in INVERSE:
        raise ConfigError(unknown("_class_name", name, INVERSE))
    allowed = class_defaults(INVERSE[name])
    for key in config:
        if not key.startswith("_") and key not in allowed and key not in (*known(), *OWN):
            raise ConfigError(unknown(f"key of {name}", key, allowed))
    own = {key: value for key, value in config.items() if key in allowed}
    given = {**own, "_class_name": INVERSE[name]}
    settings = read_settings(given)
    if settings.clip is not None:
        raise ConfigError(
            f"{name} clips its predictions (clip_sample or thresholding), which cannot be "
            "inverted; give clip_sample=False, thresholding=False"
        )
    if settings.special or own.get("use_flow_sigmas"):
        raise ConfigError(
            f"{name} with special levels repeats the largest of them and is not served; use "
            "fewstep.invert with that grid"
        )
    if steps > settings.train_steps:
        raise ConfigError(f"steps={steps}: at most num_train_timesteps={settings.train_steps}")
    make = _ddim if name == "DDIMInverseScheduler" else _dpm
    return make({**allowed, **given}, settings, steps)


def _ddim(config: Mapping[str, Any], settings: Settings, steps: int) -> _Served:
    total, schedule = settings.train_steps, settings.schedule
    if settings.spacing == "leading":
        labels = [k * (total // steps) + settings.offset for k in range(steps)]
    elif settings.spacing == "trailing":
        labels = [int(t) - 1 for t in np.round(np.arange(total, 0, -total / steps)[::-1])]
    else:
        raise ConfigError(
            f"timestep_spacing={settings.spacing!r}: DDIMInverseScheduler has leading and trailing"
        )
    if labels[-1] >= total:
        raise ConfigError(
            f"steps_offset={settings.offset} leads beyond the last entry of the table"
        )
    clean = Node(1.0, 0.0, -1.0) if config["set_alpha_to_one"] else schedule.node(0.0)

    def at(level: int) -> Node:
        return schedule.node(float(level)) if level >= 0 else clean

    times = (labels[0] - total // steps, *labels)
    nodes = tuple(map(at, times))
    begin = nodes[0]
    b = PlanBuilder(nodes, "asymptotic", "ddim_inverse")
    x = b.start(begin)
    for label in labels:
        s, t = at(label - total // steps), at(label)
        e = b.evaluate(x, Node(s.alpha, s.sigma, float(label)), "eps")
        scale = t.alpha / s.alpha
        x = b.at(t, scale * x + (t.sigma - s.sigma * scale) * e)
    grid = Grid(schedule, tuple(max(float(t), -1.0) for t in times), nodes, "inverse")
    options = registry.make_options(registry.get("ddim"), {})
    return _Served("DDIMInverseScheduler", grid, "ddim", options, b.finish(x))


def _dpm(config: Mapping[str, Any], settings: Settings, steps: int) -> _Served:
    last, spacing = settings.first, settings.spacing
    if spacing == "linspace":
        labels = np.linspace(0, last, steps + 1).round()[:-1]
    elif spacing == "leading":
        ratio = (last + 1) // (steps + 1)
        labels = np.arange(steps) * ratio + settings.offset
    else:
        labels = np.arange(last + 1, 0, -settings.train_steps / steps).round()[::-1] - 1
    times = [*map(float, labels), float(last)]
    if spacing == "trailing":
        times = times[:-1]
    if len(times) < 2 or not all(s < t for s, t in pairwise(times)):
        raise ConfigError(f"steps={steps}: two of its times would be equal; use fewer steps")
    config = {**config, "origin": config["_class_name"], "final_sigmas_type": "sigma_min"}
    name, options = counterpart(config, steps)
    if spacing == "trailing" and "lower_order_final" in options:
        if options["lower_order_final"] and config["solver_order"] == 3:
            raise ConfigError(
                "solver_order=3 with timestep_spacing='trailing' below 15 steps is not served"
            )
        options["lower_order_final"] = False  # the step that is lowered is the one of no length
    entry = registry.get(name)
    made = registry.make_options(entry, options)
    if entry.tau_of(made) > 0.0:
        raise ConfigError(
            f"algorithm_type={config['algorithm_type']!r} draws noise and cannot be inverted; use "
            "dpmsolver++ or dpmsolver"
        )
    schedule = settings.schedule
    grid = Grid(schedule, tuple(times), tuple(schedule.node(t) for t in times), "inverse")
    plan = registry.build(name, grid, made).renamed("dpm_solver_inverse")
    return _Served("DPMSolverMultistepInverseScheduler", grid, name, made, plan)

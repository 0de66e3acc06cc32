"""The plans of diffusers' inverse schedulers, from data to noise.

DDIMInverseScheduler                 each step leads from level s to level t with the prediction
                                     asked at the label t for the state at s
DPMSolverMultistepInverseScheduler   DPM-Solver multistep on increasing levels
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from ...checks import instance, integer, unknown
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...samplers import registry
from ...schedules.diffusers.classes import class_defaults
from ...schedules.diffusers.config import Settings
from ...schedules.diffusers.config import read as read_settings
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from .config import ConfigError
from .counterparts import counterpart

#: inverse class -> the class whose keys and defaults it has
FORWARD = {
    "DDIMInverseScheduler": "DDIMScheduler",
    "DPMSolverMultistepInverseScheduler": "DPMSolverMultistepScheduler",
}


def inverse_plan(config: Mapping[str, Any], steps: int) -> Plan:
    """The plan that gives what an inverse scheduler of diffusers, DDIMInverseScheduler or
    DPMSolverMultistepInverseScheduler, gives with ``set_timesteps(steps)``.

    ``fewstep.run(plan, denoiser, x0)`` returns the noise for clean data x0 (B, *shape). The result
    is that of diffusers up to its float32 tables.

    Args:
        config: the scheduler's ``config``, or its JSON as a dict; ``_class_name`` names the class.
        steps: ``num_inference_steps``. With ``timestep_spacing="trailing"`` the last step of
            DPMSolverMultistepInverseScheduler has no length, and the plan is without it (diffusers
            gives NaN there with ``solver_type="heun"`` or third order).

    Raises ConfigError for other classes, unknown keys, and settings that have no plan: clipping and
    thresholding (which cannot be inverted), noise, and special levels (which repeat the largest).
    """
    instance("config", config, Mapping, "the config of a scheduler")
    steps = integer("steps", steps, 1, 100_000)
    name = str(config.get("_class_name"))
    if name not in FORWARD:
        raise ConfigError(unknown("_class_name", name, FORWARD))
    allowed = class_defaults(FORWARD[name])
    for key in config:
        if not key.startswith("_") and key not in allowed:
            raise ConfigError(unknown(f"key of {name}", key, allowed))
    given = {**config, "_class_name": FORWARD[name]}
    settings = read_settings(given)
    if settings.clip is not None:
        raise ConfigError(
            f"{name} clips its predictions (clip_sample or thresholding), which cannot be "
            "inverted; give clip_sample=False, thresholding=False"
        )
    if settings.special or config.get("use_flow_sigmas"):
        raise ConfigError(
            f"{name} with special levels repeats the largest of them and is not served; use "
            "fewstep.invert with that grid"
        )
    if steps > settings.train_steps:
        raise ConfigError(f"steps={steps}: at most num_train_timesteps={settings.train_steps}")
    if name == "DDIMInverseScheduler":
        return _ddim({**allowed, **given}, settings, steps)
    return _dpm({**allowed, **given}, settings, steps)


def _ddim(config: Mapping[str, Any], settings: Settings, steps: int) -> Plan:
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

    begin = at(labels[0] - total // steps)
    b = PlanBuilder((begin, *map(at, labels)), "asymptotic", "ddim_inverse")
    x = b.start(begin)
    for label in labels:
        s, t = at(label - total // steps), at(label)
        e = b.evaluate(x, Node(s.alpha, s.sigma, float(label)), "eps")
        scale = t.alpha / s.alpha
        x = b.at(t, scale * x + (t.sigma - s.sigma * scale) * e)
    return b.finish(x)


def _dpm(config: Mapping[str, Any], settings: Settings, steps: int) -> Plan:
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
    nodes = [schedule.node(t) for t in times]
    plan = registry.build(name, Grid(schedule, tuple(times), tuple(nodes), "inverse"), made)
    return plan.renamed("dpm_solver_inverse")

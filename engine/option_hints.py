"""Hints for an option that the sampler does not have: it may be an argument of ``fewstep.sample``,
or an option of a grid or of guidance."""

from __future__ import annotations

import difflib
from typing import Any

from ..checks import shown
from ..schedules.grids.registry import option_names
from ..schedules.grids.request import GridRequest

#: arguments of ``sample`` and ``plan``
ARGUMENTS = (
    "sampler", "steps", "nfe", "grid", "times", "sigmas", "final", "n", "seed", "seeds", "x",
    "init", "start", "shape", "cond", "noise", "device", "dtype", "callback", "progress", "info",
)  # fmt: skip
#: names of these arguments in other programs
OTHER_NAMES = {
    "num_steps": "steps",
    "n_steps": "steps",
    "num_inference_steps": "steps",
    "sampling_steps": "steps",
    "timesteps": "times",
    "num_samples": "n",
    "n_samples": "n",
    "batch_size": "n",
    "generator": "seed",
    "latents": "x",
    "scheduler": "sampler",
    "method": "sampler",
    "model_kwargs": "cond",
    "callback_on_step_end": "callback",
}
GUIDANCE = ("guidance_scale", "cfg_scale", "cfg", "guidance", "true_cfg_scale")


def option_hint(key: str, value: Any, where: GridRequest) -> str | None:
    """Return a sentence about the option ``key``, which the sampler does not have; None if no
    similar option is known."""
    if key in GUIDANCE:
        return (
            f"{key} is not an option of samplers: guidance wraps the denoiser, "
            f"fewstep.guidance.CFG(denoiser, scale={shown(value)})"
        )
    if key in option_names():
        name = where.grid if isinstance(where.grid, str) else "karras"
        return (
            f"{key} is an option of grids: grid=fewstep.grid({name!r}, denoiser.schedule, steps, "
            f"{key}={shown(value)})"
        )
    near = OTHER_NAMES.get(key) or next(
        iter(difflib.get_close_matches(key, ARGUMENTS, n=1, cutoff=0.75)), None
    )
    return None if near is None else f"did you mean the argument {near}={shown(value)}?"

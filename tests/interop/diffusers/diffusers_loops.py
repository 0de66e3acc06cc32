"""A pipeline's loop without a pipeline: any scheduler on a small smooth network."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import diffusers
import torch

from fewstep import FewstepScheduler

MIX = torch.randn(3, 3, generator=torch.Generator().manual_seed(4)) * 0.3
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def network(x: torch.Tensor, t: float) -> torch.Tensor:
    return torch.tanh(torch.einsum("ij,bjhw->bihw", MIX, x)) + 0.3 * x * torch.cos(
        torch.tensor(t * 0.003)
    )


def theirs(name: str, config: dict[str, Any]) -> Any:
    return getattr(diffusers, name + "Scheduler")(**config)


def ours(name: str, config: dict[str, Any], **changes: Any) -> Any:
    return FewstepScheduler.from_config({"_class_name": name + "Scheduler", **config}, **changes)


def noise(seed: int = 1, n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def sample(
    scheduler: Any,
    steps: int | None,
    told: Callable[[int, float], float] | None = None,
    **given: Any,
) -> tuple[torch.Tensor, int]:
    """The final state and the number of calls; ``told(k, t)`` is what the network is told instead
    of t."""
    scheduler.set_timesteps(steps, **given)
    x, generator = (
        noise() * float(getattr(scheduler, "init_noise_sigma", 1.0)),
        torch.Generator().manual_seed(2),
    )
    drawn = (
        {"generator": generator}
        if "generator" in inspect.signature(scheduler.step).parameters
        else {}
    )
    for k, t in enumerate(scheduler.timesteps):
        x_in = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        output = network(x_in, float(t) if told is None else told(k, float(t)))
        x = scheduler.step(output, t, x, return_dict=False, **drawn)[0]
    return x, len(scheduler.timesteps)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())

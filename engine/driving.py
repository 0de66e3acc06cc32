"""Runs a driver: translates the arguments of ``sample`` to those of ``samplers.drivers``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..checks import ArgumentError
from ..fused.noise.seeded import SeededNoise
from ..models.denoiser import Denoiser
from ..plans.running.loop import Noise, OnStep, noise_source
from ..samplers import registry
from ..samplers.drivers.driver import Drive
from .paths import LamPath, Named
from .planning import Request

#: smallest step in lam whose noise has the exact distribution
PATH_TOLERANCE = 2.0**-16


@torch.no_grad()
def run_driver(
    asked: Request,
    denoiser: Denoiser,
    x: Tensor,
    noise: Noise | Named,
    seeds: Sequence[int],
    cond: Tensor | Mapping[str, Tensor] | None = None,
    on_step: OnStep | None = None,
) -> tuple[Tensor, Drive]:
    """Run a driver from ``x`` (B, *shape), the state at the first node of its grid; return the
    result and the finished run.

    A driver that uses a Brownian path uses it whatever ``noise`` is. Raises ValueError for
    ``noise="brownian"`` with any other stochastic driver.
    """
    entry = registry.get(asked.name)
    if noise == "brownian" and entry.tau_of(asked.options) > 0.0 and not entry.brownian:
        raise ArgumentError(
            f"noise='brownian': {asked.name} draws its noises one after another; allowed: "
            "'independent', a callable, tensors by key"
        )
    source = (
        SeededNoise(tuple(seeds))
        if noise is None or isinstance(noise, str)
        else noise_source(noise)
    )
    drive = Drive(
        denoiser,
        x,
        asked.grid[0],
        source,
        LamPath(seeds, tol=PATH_TOLERANCE),
        cond,
        on_step,
        max_nfe=asked.options.max_nfe,
    )
    return drive.close(entry.build(drive, asked.grid, asked.options)), drive

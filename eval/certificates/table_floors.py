"""Error floors of samplers that step in t on a discrete schedule, where the slopes of alpha and
sigma jump at every table entry.

Between the entries of ``DiscreteVP`` log rho is linear in t. A step in rho or lam is not affected,
but a step in t integrates a function with kinks, and its error stops falling with its order. The
certificate is the RMS distance of end points at the table's first entry from those of
``dpm_solver_3`` with 1,200 steps (accurate to 5e-9), for a mixture of two Gaussians in two
dimensions, 64 start states, 1,000 entries with beta from 1e-4 to 0.02, on the uniform grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ...checks import unknown
from ...engine import sample
from ...models import GaussianMixture
from ...samplers import SamplerError, get
from ...samplers.floors import FLOORS, quietly
from ...schedules import DiscreteVP

#: step counts of the measurement; the verdict uses the middle one
STEPS = (40, 160, 640)
ENTRIES = 1000
#: allowed ratio of the error to the stated floor, which is an order of magnitude
FACTOR = 5.0


@dataclass(frozen=True)
class FloorCertificate:
    """Error floor of one sampler: ``stated`` by ``describe``, measured ``errors`` (steps,
    error)."""

    name: str
    order: float
    stated: float
    errors: tuple[tuple[int, float], ...]

    @property
    def passed(self) -> bool:
        """Whether the error at ``STEPS[1]`` is within a factor of 5 of the stated floor."""
        return self.stated / FACTOR <= self.errors[1][1] <= self.stated * FACTOR


def certify_floor(name: str) -> FloorCertificate:
    """Measure the sampler ``name``. SamplerError for a sampler without a floor."""
    if name not in FLOORS:
        raise SamplerError(unknown("sampler with an error floor on tables", name, FLOORS))
    exact = _ends("dpm_solver_3", 1200, "lam")
    errors = tuple(
        (steps, float((_ends(name, steps, "uniform") - exact).pow(2).mean().sqrt()))
        for steps in STEPS
    )
    entry = get(name)
    return FloorCertificate(name, float(entry.order_of(entry.options())), FLOORS[name], errors)


@cache
def _ends(name: str, steps: int, grid: str) -> Tensor:
    step = (0.02 - 1e-4) / (ENTRIES - 1)
    schedule = DiscreteVP.from_betas([1e-4 + i * step for i in range(ENTRIES)])
    model = GaussianMixture([[1.0, -0.5], [-0.8, 0.6]], [0.3, 0.4], [0.6, 0.4], schedule, "eps")
    with quietly():
        return sample(
            model,
            name,
            steps=steps,
            grid=grid,
            n=64,
            seed=0,
            dtype=torch.float64,
            final="sigma_min",
        )

"""Grid ``"auto"`` is a measured choice (``benchmarks/grid_choice.py``, ``docs/grids.md``): a small
part of that measurement, repeated."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

import fewstep
from fewstep.models import GaussianMixture
from fewstep.schedules import (
    EDM,
    VE,
    DiscreteVP,
    Flow,
    Grid,
    Schedule,
    SubVP,
    Trig,
    VPCosine,
    VPLinear,
    VPSigmoid,
)
from fewstep.schedules.grids.auto import AUTO

PLAIN = (
    "uniform",
    "quadratic",
    "lam",
    "karras",
    "kl_optimal",
    "beta",
    "beta_t",
    "sgm_uniform",
    "linear_quadratic",
)
OPEN = (
    {"name": "lam"},
    {"name": "karras"},
    {"name": "polyexponential", "power": 0.8},
    {"name": "power"},
    {"name": "power", "power": 3.0},
)
CANDIDATES = (*({"name": name} for name in PLAIN), *({**row, "drop_last": True} for row in OPEN))
TABLE = DiscreteVP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).tolist())
EVERY = (VPLinear(), VPCosine(), VPSigmoid(), SubVP(), TABLE, VE(), EDM(), Flow(), Trig())
WORSE = 1.3


def blobs(schedule: Schedule) -> GaussianMixture:
    """8 round components in 32 dims, widths 0.05 to 0.3, means in [-0.7, 0.7]."""
    means = (
        1.4 * torch.rand(8, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        - 0.7
    )
    return GaussianMixture(means, torch.linspace(0.05, 0.3, 8), torch.ones(8), schedule, "x0")


@cache
def converged(rho: float) -> tuple[Tensor, Tensor]:
    """``x / alpha`` at sigma/alpha = ``rho``, and the end of the probability-flow ODE from
    there."""
    y = rho * torch.randn(16, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return y, fewstep.sample(blobs(EDM(1e-5, rho)), "dpmpp_3m", steps=120, grid="lam", x=y)


def error(schedule: Schedule, grid: Grid) -> float:
    """RMSE of the end point of dpmpp_2m, of the median sample: one that ends in another component
    would outweigh all others."""
    y, end = converged(grid[0].rho)
    return float(
        (fewstep.sample(blobs(schedule), "dpmpp_2m", grid=grid, x=grid[0].alpha * y) - end)
        .square()
        .mean(1)
        .median()
        .sqrt()
    )


@pytest.mark.parametrize("schedule", [EDM(), VPLinear()], ids=lambda s: type(s).__name__)
def test_auto_is_near_the_best(schedule: Schedule) -> None:
    errors = {
        str(row): error(schedule, fewstep.grid(schedule=schedule, steps=10, **row))
        for row in CANDIDATES
    }
    assert error(schedule, fewstep.grid("auto", schedule, 10)) <= WORSE * min(errors.values()), (
        errors
    )
    assert max(errors.values()) > 2.0 * WORSE * min(errors.values())  # a wrong choice would be seen


def test_every_schedule_has_a_choice() -> None:
    assert set(AUTO) == {type(schedule).__name__ for schedule in EVERY}


@pytest.mark.parametrize(
    "schedule", [*EVERY, TABLE.rescale_zero_snr()], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("steps", [1, 2, 3, 50])
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
def test_auto_makes_every_length_from_anywhere(schedule: Schedule, steps: int, final: str) -> None:
    for start in (None, 0.4 * schedule.t_max):
        grid = fewstep.grid("auto", schedule, steps, final=final, start=start)
        assert grid.steps == steps and grid.times[0] == (schedule.t_max if start is None else start)
        assert grid[-1].sigma == 0.0 or final == "sigma_min"


@pytest.mark.parametrize("schedule", EVERY, ids=lambda s: type(s).__name__)
def test_auto_begins_in_the_middle(schedule: Schedule) -> None:
    model, init = blobs(schedule), torch.zeros(2, 32, dtype=torch.float64)
    out = fewstep.sample(model, "dpmpp_2m", steps=4, init=init, start=0.4)
    assert out.shape == init.shape and bool(torch.isfinite(out).all())


@pytest.mark.parametrize(
    "schedule", [VPLinear(), TABLE, VE(), EDM()], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize(
    "name", ["uniform", "power", "lam", "exponential", "polyexponential", "karras"]
)
def test_drop_last_is_the_closed_grid_without_its_end(schedule: Schedule, name: str) -> None:
    shorter = fewstep.grid(name, schedule, 6, drop_last=True)
    closed = fewstep.grid(name, schedule, 6, final="sigma_min")
    assert (
        shorter.times == pytest.approx((*closed.times[:-1], schedule.t_zero), rel=1e-9)
        and ("drop_last", True) in shorter.params
    )

"""Grid ``"auto"`` is a measured rule (``benchmarks/default_call.py``, ``docs/grids.md``): a small
part of that measurement, repeated."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import fewstep
from fewstep.models import GaussianMixture
from fewstep.plans.plan import Plan
from fewstep.schedules import (
    EDM,
    VE,
    DiscreteVP,
    Flow,
    Schedule,
    SubVP,
    Trig,
    VPCosine,
    VPLinear,
    VPSigmoid,
)

PLAIN = (
    "uniform",
    "lam",
    "quadratic",
    "sgm_uniform",
    "kl_optimal",
    "beta",
    "beta_t",
    "linear_quadratic",
    "karras",
)
#: the named grids of the measurement
NAMED: tuple[dict[str, Any], ...] = (
    *({"name": name} for name in PLAIN),
    {"name": "karras", "drop_last": True},
    {"name": "lam", "drop_last": True},
    {"name": "power", "power": 2.0, "drop_last": True},
)
TABLE = DiscreteVP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).tolist())
EVERY = (VPLinear(), VPCosine(), VPSigmoid(), SubVP(), TABLE, VE(), EDM(), Flow(), Trig())
SAMPLERS: tuple[tuple[str, dict[str, float]], ...] = (("dpmpp_2m", {}), ("ghvb", {"order": 2.5}))
STEPS = 8
#: auto is at most this far behind the best named grid, which differs from cell to cell; the worst
#: one is further behind, so that a wrong choice would be seen
NEAR, FAR = 1.5, 3.0
#: least gain of the default call over that of version 0.1
GAIN = 1.0 / 0.7


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


def error(schedule: Schedule, plan: Plan) -> float:
    """RMSE of the end point of the median sample: one that ends in another component would outweigh
    all others."""
    start = plan.nodes[0]
    y, end = converged(start.rho)
    out = fewstep.run(plan, blobs(schedule), start.alpha * y)
    return float((out - end).square().mean(1).median().sqrt())


@pytest.mark.parametrize("schedule", [EDM(), VPLinear()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(("sampler", "options"), SAMPLERS, ids=[name for name, _ in SAMPLERS])
def test_auto_is_near_the_best(schedule: Schedule, sampler: str, options: dict[str, float]) -> None:
    errors = {}
    for row in NAMED:
        grid = fewstep.grid(schedule=schedule, steps=STEPS, **row)
        errors[str(row)] = error(schedule, fewstep.plan(sampler, schedule, grid=grid, **options))
    best, worst = min(errors.values()), max(errors.values())
    own = error(schedule, fewstep.plan(sampler, blobs(schedule), steps=STEPS, **options))
    assert own <= NEAR * best, errors
    assert worst >= FAR * best


@pytest.mark.parametrize("schedule", [EDM(), VPLinear(), TABLE], ids=lambda s: type(s).__name__)
def test_the_default_call_gains_on_that_of_version_0_1(schedule: Schedule) -> None:
    former = fewstep.plan("dpmpp_2m", schedule, nfe=STEPS, grid="auto_0_1")
    now = fewstep.plan("auto", blobs(schedule), nfe=STEPS)
    assert now.nfe == former.nfe == STEPS
    assert error(schedule, former) >= GAIN * error(schedule, now)


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

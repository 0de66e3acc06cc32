"""Inversion: data to noise and back."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError
from fewstep.engine.likelihood import likelihood
from fewstep.eval.solver.counting import Counting
from fewstep.models import GaussianMixture
from fewstep.samplers import SamplerError
from fewstep.schedules import EDM, DiscreteVP, Flow, Trig, VPLinear
from fewstep.schedules.base import Schedule

TABLE = DiscreteVP.from_betas(torch.linspace(1e-4, 0.02, 1000).tolist())


def model(schedule: Schedule, prediction: str = "v") -> GaussianMixture:
    means = torch.tensor([[-1.3, 0.2], [0.4, -0.5], [1.7, 1.0]], dtype=torch.float64)
    return GaussianMixture(
        means, torch.tensor([0.3, 0.2, 0.4]), torch.tensor([0.3, 0.5, 0.2]), schedule, prediction
    )


def data(den: GaussianMixture, n: int = 16) -> torch.Tensor:
    """States at t_min."""
    node = den.schedule.node(den.schedule.t_min)
    z = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return node.alpha * den.sample(n, 0) + node.sigma * z


def round_trip(den: GaussianMixture, x0: torch.Tensor, sampler: str, **options: Any) -> float:
    z = fewstep.invert(den, x0, sampler, **options)
    return float(
        (fewstep.sample(den, sampler, x=z, **{"final": "sigma_min", **options}) - x0).abs().max()
    )


@pytest.mark.parametrize(
    "schedule", [VPLinear(), EDM(), Flow(), Trig(), TABLE], ids=lambda s: type(s).__name__
)
def test_the_round_trip_closes_with_the_order_of_the_default(schedule: Schedule) -> None:
    den = model(schedule)
    x0 = data(den)
    errors = [round_trip(den, x0, "dpm_solver_2m", steps=n, grid="auto_0_1") for n in (60, 240)]
    # rms data 1.2; order 2 would be a sixteenth
    assert errors[1] < 0.012 and errors[1] < errors[0] / 4.0, errors
    # the automatic grid depends on the number of steps: no slope, but it closes
    assert round_trip(den, x0, "dpm_solver_2m", steps=240) < 0.012


def test_a_fourth_order_round_trip_is_tight() -> None:
    den = model(VPLinear())
    assert (
        round_trip(den, data(den), "flow_rk4", steps=100)
        < 1e-6
        < round_trip(den, data(den), "flow_rk4", steps=20)
    )


@pytest.mark.parametrize("schedule", [Flow(), Trig()], ids=lambda s: type(s).__name__)
def test_the_latent_is_that_of_the_exact_flow_and_a_normal_one(schedule: Schedule) -> None:
    den = model(schedule)
    x0 = den.sample(400, 1)
    z = fewstep.invert(den, x0, "flow_rk4", steps=40, grid="uniform")
    assert (z[:8] - likelihood(den, x0[:8], trace="hutchinson", steps=32).latent).abs().max() < 2e-3
    assert abs(float(z.mean())) < 4.5 / math.sqrt(800) and float(z.var()) == pytest.approx(
        1.0, abs=0.25
    )


def test_from_sigma_zero_where_the_kinds_allow_it() -> None:
    den = model(VPLinear(), "eps")
    x0 = den.sample(8, 0)
    assert round_trip(den, x0, "dpm_solver_2m", steps=200, final="zero") < 0.1
    with pytest.raises(SamplerError, match="sigma = 0"):
        fewstep.invert(den, x0, "dpmpp_2m", steps=20, final="zero")
    with pytest.raises(SamplerError, match="alpha=0"):
        fewstep.invert(model(Flow()), x0, "heun", steps=20)


def test_one_call_an_evaluation_and_the_middle_of_the_path() -> None:
    den = Counting(model(VPLinear()))
    x0 = data(model(VPLinear()))
    z = fewstep.invert(den, x0, "dpmpp_2m", nfe=100, start=0.5)
    assert den.calls == 100 and den.times[0] == den.schedule.t_min and max(den.times) < 0.5
    again = fewstep.sample(den, "dpmpp_2m", x=z, nfe=100, start=0.5, final="sigma_min")
    assert (again - x0).abs().max() < 0.05


def test_nodes_may_be_given() -> None:
    """As times, as levels, and as a grid: the same as the named grid with these nodes."""
    den = model(VPLinear())
    x0 = data(den)
    grid = fewstep.grid("lam", den.schedule, 30, final="sigma_min")
    wanted = fewstep.invert(den, x0, "ddim", steps=30, grid="lam")
    rhos = [node.sigma / node.alpha for node in grid.nodes]
    for given in ({"grid": grid}, {"times": grid.times}, {"sigmas": rhos}):
        found = fewstep.invert(den, x0, "ddim", **given)
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    with pytest.raises(ArgumentError, match="cannot be used"):
        fewstep.invert(den, x0, "ddim", times=grid.times, final="sigma_min")


def test_conditions_reach_the_network() -> None:
    den = model(Flow())
    x0 = den.sample(4, 0)
    label = torch.zeros(4, dtype=torch.long)
    assert not torch.allclose(
        fewstep.invert(den, x0, steps=10, cond=label), fewstep.invert(den, x0, steps=10)
    )


@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        ("ddim", {"eta": 1.0}, "draws noise"),
        ("dpmpp_2m_sde", {}, "draws noise"),
        ("nosuch", {}, "nosuch"),
        ("heun", {"eta": 1.0}, "eta"),
    ],
)
def test_what_cannot_be_inverted_is_refused_before_the_first_call(
    sampler: str, options: dict[str, Any], message: str
) -> None:
    den = Counting(model(VPLinear()))
    with pytest.raises(SamplerError, match=message):
        fewstep.invert(den, torch.zeros(1, 2), sampler, steps=5, **options)
    assert den.calls == 0


def test_drivers_are_refused() -> None:
    drivers = [n for n in fewstep.samplers.names() if fewstep.samplers.get(n).form == "driver"]
    for name in drivers[:1]:
        with pytest.raises(SamplerError, match="driver"):
            fewstep.invert(model(VPLinear()), torch.zeros(1, 2), name)

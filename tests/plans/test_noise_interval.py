"""Noise within an interval of levels: its ends belong to it, in SA-Solver and in churn, at nodes
that lie on them exactly."""

from __future__ import annotations

import math

import pytest

import fewstep
from fewstep.plans import Plan
from fewstep.plans.walk import jumps
from fewstep.samplers.multistep.sa_solver import SASolver
from fewstep.schedules import EDM, Flow, grid

LEVELS = [8.0, 4.0, 2.0, 1.0, 0.5, 0.25]
PATH = EDM(0.002, 80.0)


def taus(interval: tuple[float, float], clock: str = "t", **options: object) -> list[float]:
    chosen = SASolver(tau=0.8, interval=interval, clock=clock, end_noise=True, **options)
    given = grid("custom", PATH, sigmas=LEVELS)
    return [1.0 if tau == 0.8 else tau for tau in chosen.taus(given, given.steps)]


@pytest.mark.parametrize("clock", ["t", "rho"])
def test_both_ends_of_the_interval_of_sa_solver_belong_to_it(clock: str) -> None:
    assert taus((1.0, 4.0), clock) == [0.0, 1.0, 1.0, 1.0, 0.0]
    assert taus((math.nextafter(1.0, 2.0), 4.0), clock) == [0.0, 1.0, 1.0, 0.0, 0.0]
    assert taus((1.0, math.nextafter(4.0, 0.0)), clock) == [0.0, 0.0, 1.0, 1.0, 0.0]
    assert taus((0.1, 100.0), clock) == [1.0] * 5


def test_the_clock_is_time_or_level() -> None:
    """On the flow t = 0.5 is rho = 1."""
    given = grid("custom", Flow(), times=[0.8, 0.5, 0.2, 0.1])
    for clock, ends, want in (
        ("t", (0.5, 0.9), [0.8, 0.8, 0.0]),
        ("rho", (0.9, 3.0), [0.0, 0.8, 0.0]),
        ("t", (0.9, 3.0), [0.0, 0.0, 0.0]),
    ):
        assert list(SASolver(tau=0.8, interval=ends, clock=clock).taus(given, 3)) == want


def test_the_noise_of_the_last_step_and_of_a_tail() -> None:
    given = grid("custom", PATH, sigmas=LEVELS)
    assert SASolver(tau=0.8).taus(given, 5) == (0.8, 0.8, 0.8, 0.8, 0.0)
    assert SASolver(tau=0.8, end_noise=True).taus(given, 5) == (0.8,) * 5
    each = SASolver(tau=(0.1, 0.2, 0.3, 0.4, 0.5), end_noise=True)
    assert each.taus(given.tail(2), 5) == (0.3, 0.4, 0.5)
    with pytest.raises(ValueError, match="tau"):
        each.taus(given, 6)


def churned(plan: Plan) -> list[float]:
    """The levels before the jumps that a plan makes, and what they jump to."""
    claims = {0: plan.start} | {
        i.out: i.node
        for i in plan.code
        if getattr(i, "node", None) is not None and hasattr(i, "terms")
    }
    return [round(claims[source].rho, 9) for source in jumps(plan).values()]


@pytest.mark.parametrize("name", ["euler", "heun", "dpm2"])
def test_both_ends_of_the_range_of_churn_belong_to_it(name: str) -> None:
    def levels(**limits: float) -> list[float]:
        return churned(fewstep.plan(name, PATH, sigmas=LEVELS, s_churn=2.0, **limits))

    assert levels() == LEVELS[:-1]
    assert levels(s_tmin=1.0, s_tmax=4.0) == [4.0, 2.0, 1.0]
    assert levels(s_tmin=math.nextafter(1.0, 2.0), s_tmax=4.0) == [4.0, 2.0]
    assert levels(s_tmin=1.0, s_tmax=math.nextafter(4.0, 0.0)) == [2.0, 1.0]
    assert levels(s_tmin=9.0, s_tmax=10.0) == []


@pytest.mark.parametrize(
    ("s_churn", "gamma"), [(1.0, 0.2), (2.0, 0.4), (5.0, math.sqrt(2.0) - 1.0)]
)
def test_how_far_churn_jumps(s_churn: float, gamma: float) -> None:
    """``rho_hat = (1 + min(s_churn / N, sqrt 2 - 1)) rho``, with noise of exactly the missing
    variance times s_noise."""
    for s_noise in (1.0, 1.1):
        plan = fewstep.plan("euler", PATH, sigmas=LEVELS, s_churn=s_churn, s_noise=s_noise)
        found = [i for i in plan.code if getattr(i, "noise", ())]
        for i, rho in zip(found, LEVELS, strict=False):
            assert i.node.rho == pytest.approx((1.0 + gamma) * rho, rel=1e-12)
            assert i.noise[0][1] == pytest.approx(
                s_noise * rho * math.sqrt((1.0 + gamma) ** 2 - 1.0), rel=1e-12
            )
    top = fewstep.plan("euler", EDM(0.002, 8.0), times=LEVELS, s_churn=2.0)
    assert churned(top) == LEVELS[1:-1], "nothing is evaluated above the path's noisiest level"
    assert len(top.draws) == 5, "a draw belongs to its step whether it is used or not"

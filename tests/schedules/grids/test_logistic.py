"""The grid ``logistic``: uniform in the logistic distribution of log rho, on every path."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewstep.schedules import EDM, VE, DiscreteVP, Flow, GridError, Schedule, Trig, VPLinear, grid
from fewstep.schedules.grids.registry import GRIDS

TABLE = DiscreteVP.from_betas([1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)])
EVERY = (VPLinear(), TABLE, TABLE.rescale_zero_snr(), VE(), EDM(), Flow(), Flow(3.0), Trig())


def probability(rho: float, location: float, spread: float) -> float:
    """``1 / (1 + (location / rho)^(1 / spread))``."""
    return 1.0 if math.isinf(rho) else 1.0 / (1.0 + (location / rho) ** (1.0 / spread))


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 200])
def test_the_probability_falls_linearly(schedule: Schedule, steps: int) -> None:
    """From that of the first level to 0, or to that of the least level where this is above the
    last node."""
    sigma_data, center, spread = 0.7, 1.8, 1.4
    made = grid("logistic", schedule, steps, sigma_data=sigma_data, center=center, spread=spread)
    location = center * sigma_data * getattr(schedule, "shift", 1.0)
    rhos = [node.rho for node in made.nodes]
    u = [probability(rho, location, spread) for rho in rhos[:-1]]
    assert rhos[-1] == 0.0 and made.times[0] == schedule.t_max and made.steps == steps
    first = probability(schedule.rho(schedule.t_max), location, spread)
    least = probability(r, location, spread) if (r := schedule.rho(schedule.t_min)) else 0.0
    want = np.linspace(first, max(first / steps, least), steps)
    assert u == pytest.approx(list(want), rel=1e-7)
    assert (max(first / steps, least) == least) == (
        (steps == 200 and least > 0.0) or first == least
    )


@pytest.mark.parametrize("schedule", EVERY, ids=repr)
@pytest.mark.parametrize("steps", [1, 2, 3, 50])
def test_it_ends_at_the_least_level(schedule: Schedule, steps: int) -> None:
    made = grid("logistic", schedule, steps, final="sigma_min")
    assert made.times[-1] == schedule.t_min and made.steps == steps
    zero = grid("logistic", schedule, steps, final="zero")
    assert (made.times == zero.times) == (schedule.sigma(schedule.t_min) == 0.0)


def test_scaled_data_have_scaled_levels() -> None:
    """On a path from alpha = 0 to sigma = 0 the whole grid: no level of the path enters."""
    for k in (0.25, 4.0):
        one, scaled = (
            [n.rho for n in grid("logistic", Flow(), 12, sigma_data=s).nodes[1:-1]]
            for s in (0.5, 0.5 * k)
        )
        assert scaled == pytest.approx([k * rho for rho in one], rel=1e-12)


def test_the_shift_of_a_flow_scales_the_levels() -> None:
    one = [n.rho for n in grid("logistic", Flow(), 9).nodes[1:-1]]
    for made in (grid("logistic", Flow(), 9, shift=3.0), grid("logistic", Flow(3.0), 9)):
        assert [n.rho for n in made.nodes[1:-1]] == pytest.approx(
            [3.0 * rho for rho in one], rel=1e-12
        )
    own = grid("logistic", Flow(3.0), 9, shift=1.0)
    assert [n.rho for n in own.nodes[1:-1]] == pytest.approx(one, rel=1e-12)


def test_a_start_in_the_middle() -> None:
    made = grid("logistic", EDM(), 5, start=0.3)
    assert made.times[0] == 0.3 and made.steps == 5 and made.nodes[-1].sigma == 0.0


@pytest.mark.parametrize("name", ["sigma_data", "center", "spread"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan, "a", True])
def test_a_number_out_of_range(name: str, value: object) -> None:
    with pytest.raises(GridError, match=name):
        grid("logistic", EDM(), 5, **{name: value})  # type: ignore[arg-type]


def test_it_is_registered() -> None:
    assert GRIDS["logistic"].option_names == ("sigma_data", "center", "spread", "shift")

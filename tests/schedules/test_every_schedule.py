"""What every registered schedule must satisfy: a schedule in a file of its own gets these tests."""

from __future__ import annotations

import copy
import json
import math
import pickle

import numpy as np
import pytest
import torch

import fewstep
from fewstep import schedules
from fewstep.schedules import Schedule, check, from_config, grid, to_config
from fewstep.schedules.noise_path import NoisePath
from fewstep.schedules.registry import SCHEDULES

EXAMPLES: dict[str, Schedule] = {
    f"{name}-{i}": example
    for name in schedules.names()
    for i, example in enumerate(SCHEDULES[name].examples())
}
every = pytest.mark.parametrize("schedule", EXAMPLES.values(), ids=EXAMPLES)


def test_registered_schedules_are_public() -> None:
    assert schedules.names() == tuple(sorted(SCHEDULES))
    for name, cls in SCHEDULES.items():
        assert getattr(schedules, name) is cls and cls.__name__ == name and cls.__doc__


@every
def test_its_functions_fit_each_other(schedule: Schedule) -> None:
    check(schedule)


@pytest.mark.parametrize("data", [1.0, 0.5])
def test_the_path_of_preconditioned_inputs_is_consistent(data: float) -> None:
    check(NoisePath(data))


@every
def test_it_is_a_value(schedule: Schedule) -> None:
    for other in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert other == schedule and hash(other) == hash(schedule)
        assert repr(other) == repr(schedule)
    with pytest.raises(AttributeError):
        schedule.nothing = 1.0  # type: ignore[attr-defined]


@every
def test_its_config_gives_it_back(schedule: Schedule) -> None:
    text = json.dumps(to_config(schedule), allow_nan=False)
    assert from_config(json.loads(text)) == schedule


@every
@pytest.mark.parametrize("name", ["auto", "lam", "karras", "uniform"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_grids_end_where_they_must(schedule: Schedule, name: str, steps: int) -> None:
    made = grid(name, schedule, steps)
    assert made.times[0] == schedule.t_max and made.times[-1] == schedule.t_zero
    assert made[-1].sigma == 0.0
    assert grid(name, schedule, steps, final="sigma_min").times[-1] == schedule.t_min


@every
def test_the_last_step_gives_the_data(schedule: Schedule) -> None:
    """A model that always answers x0 = 0.7 is sampled to 0.7."""

    class Constant:
        prediction, shape, offset = "x0", (2,), None

        def __init__(self) -> None:
            self.schedule = schedule

        def raws(self, x, t, cond=None):
            return (torch.full_like(x, 0.7),)

        def coefficients(self, t):
            return 0.0, (1.0,)

        def input_scale(self, t):
            return 1.0

        def __call__(self, x, t, cond=None):
            return self.raws(x, t, cond)[0]

    out = fewstep.sample(Constant(), "ddim", steps=3, n=2, dtype=torch.float64)
    scale = schedule.node(schedule.t_zero).alpha
    assert out.flatten().tolist() == pytest.approx([0.7 * scale] * 4, rel=1e-9)


@every
def test_scalars_arrays_and_tensors_agree_in_every_function(schedule: Schedule) -> None:
    low, high = schedule.t_min, schedule.t_max
    times = [low + u * (high - low) for u in (0.07, 0.31, 0.77)]
    for name in ("alpha", "sigma", "dalpha", "dsigma", "lam", "rho", "dlam", "f", "g2"):
        function = getattr(schedule, name)
        wanted = [function(t) for t in times]
        assert all(type(v) is float and math.isfinite(v) for v in wanted), name
        assert np.asarray(function(np.asarray(times))) == pytest.approx(wanted, rel=1e-12)
        found = function(torch.tensor(times, dtype=torch.float64))
        assert found.dtype == torch.float64 and found.tolist() == pytest.approx(wanted, rel=1e-12)

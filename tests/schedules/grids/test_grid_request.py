"""``GridRequest``: what it refuses, and the grids that it builds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError
from fewstep.schedules import EDM, Flow, GridError, GridRequest, VPLinear, grid
from fewstep.schedules.grids.construction import MAX_STEPS
from fewstep.schedules.grids.request import DEFAULT_STEPS, MAX_NFE

FLOW = Flow()


def test_a_named_grid() -> None:
    assert GridRequest().build(FLOW) == grid("auto", FLOW, DEFAULT_STEPS)
    assert GridRequest(grid=None, steps=4).build(FLOW) == grid("auto", FLOW, 4)
    made = GridRequest(4, grid="karras", final="sigma_min", options=(("rho", 5.0),)).build(EDM())
    assert made == grid("karras", EDM(), 4, final="sigma_min", rho=5.0)
    assert GridRequest(4, grid="lam", start=0.5).build(FLOW) == grid("lam", FLOW, 4, start=0.5)
    assert GridRequest(nfe=9, grid="lam").build(FLOW, 3) == grid("lam", FLOW, 3)
    assert not GridRequest(4).given


@pytest.mark.parametrize(
    "where",
    [
        GridRequest(times=[1.0, 0.5, 0.0]),
        GridRequest(times=torch.tensor([1.0, 0.5, 0.0])),
        GridRequest(2, sigmas=np.array([np.inf, 1.0, 0.0])),
        GridRequest(grid=grid("uniform", FLOW, 2)),
    ],
)
def test_nodes_of_its_own(where: GridRequest) -> None:
    assert where.given and where.build(FLOW).times == (1.0, 0.5, 0.0)
    assert where.build(FLOW, 2).steps == 2
    with pytest.raises(ArgumentError, match=r"steps=3, but the given grid has 2"):
        where.build(FLOW, 3)


def test_it_is_a_value() -> None:
    a, b = GridRequest(np.int64(3), times=np.array([1.0, 0.0])), GridRequest(3, times=(1, 0))
    assert a == b and hash(a) == hash(b) and type(a.steps) is int and a.times == (1.0, 0.0)
    assert a != GridRequest(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"steps": 2.5}, "steps=2.5"),
        ({"steps": True}, "steps=True"),
        ({"steps": MAX_STEPS + 1}, f"steps={MAX_STEPS + 1} must be at most {MAX_STEPS}"),
        ({"nfe": MAX_NFE + 1}, "nfe=2147483649 must be at most 2147483648"),
        ({"nfe": -1}, "nfe=-1"),
        ({"steps": 3, "nfe": 3}, "give one of them"),
        ({"grid": 7}, "must be a name or a Grid"),
        ({"grid": [1.0, 0.0]}, "times= or sigmas= take lists"),
        ({"times": "nonsense"}, "times='nonsense' must be a list of numbers"),
        ({"sigmas": [1.0, None]}, "sigmas holds None"),
        ({"grid": grid("uniform", FLOW, 2), "start": 0.5}, "a Grid already.*start="),
        ({"grid": grid("uniform", FLOW, 2), "times": [1.0, 0.0]}, "a Grid already.*times="),
        ({"grid": grid("uniform", FLOW, 2), "options": (("rho", 5),)}, "a Grid already.*rho="),
        ({"times": [1.0, 0.0], "grid": "karras"}, "times= already.*grid='karras'"),
        ({"sigmas": [2.0, 0.0], "final": "sigma_min"}, "sigmas= already.*final='sigma_min'"),
        ({"times": [1.0, 0.0], "start": 0.5}, "times= already.*start="),
        ({"times": [1.0, 0.0], "sigmas": [2.0, 0.0]}, "times= already.*sigmas"),
    ],
)
def test_what_is_refused(arguments, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        GridRequest(**arguments)
    if "options" not in arguments:
        with pytest.raises(ArgumentError, match=message):
            fewstep.plan("ddim", FLOW, **arguments)


def test_what_the_schedule_refuses() -> None:
    with pytest.raises(ArgumentError, match="the grid belongs to Flow.*, the model to VPLinear"):
        GridRequest(grid=grid("uniform", FLOW, 2)).build(VPLinear())
    with pytest.raises(GridError, match="did you mean 'karras'"):
        GridRequest(grid="karass").build(FLOW)

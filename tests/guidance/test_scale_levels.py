"""Guidance scales at given noise levels, and their training through a sampler."""

from __future__ import annotations

import math

import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import CFG, Compose, Levels
from fewstep.models import GaussianMixture
from fewstep.schedules import EDM, Flow

F64 = torch.float64
RHOS = (0.1, 1.0, 10.0)


def mixture(schedule):
    return GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], 0.3, [0.5, 0.5], schedule, "velocity")


def test_the_scale_is_linear_in_log_rho():
    levels = Levels(RHOS, torch.tensor([1.0, 3.0, 2.0], dtype=F64))
    assert [levels(rho) for rho in RHOS] == pytest.approx([1.0, 3.0, 2.0], abs=1e-15)
    assert levels(math.sqrt(0.1)) == pytest.approx(2.0) and levels(0.1**0.25) == pytest.approx(2.5)
    assert (levels(0.0), levels(1e-9), levels(math.inf), levels(1e9)) == (1.0, 1.0, 2.0, 2.0)
    assert Levels([2.0], torch.tensor([4.0]))(0.5) == 4.0


@pytest.mark.parametrize("schedule", [EDM(0.002, 80.0), Flow()])
def test_levels_with_and_without_a_gradient_are_the_same_function(schedule):
    """``Flow`` begins at alpha = 0, where rho is infinite."""
    values = torch.tensor([1.5, 3.0, 2.0], dtype=F64)
    x = schedule.prior_scale * torch.randn(3, 2, dtype=F64)
    given = {"steps": 5, "grid": "lam", "x": x, "cond": torch.tensor([0, 1, 0])}
    made = [
        fewstep.sample(CFG(mixture(schedule), scale), "dpmpp_2m", **given)
        for scale in (
            Levels(RHOS, values),
            Levels(RHOS, values.clone().requires_grad_()),
            lambda rho: Levels(RHOS, values)(rho),
        )
    ]
    assert torch.equal(made[0], made[2])
    assert torch.allclose(made[0], made[1], rtol=1e-12)


@pytest.mark.parametrize("mode", ["full", "checkpoint", "checkpoint:sqrt"])
def test_the_gradient_of_each_level(mode):
    """Against central differences through the sampler; a level beyond the grid has none."""
    schedule, rhos = EDM(0.002, 80.0), (0.5, 5.0, 500.0, 1000.0)
    x = 80.0 * torch.randn(2, 2, dtype=F64)
    given = {"steps": 6, "grid": "lam", "x": x, "cond": torch.tensor([0, 1])}

    def loss(values, **more):
        den = CFG(mixture(schedule), Levels(rhos, values), interval=(0.1, 60.0))
        return fewstep.sample(den, "dpmpp_2m", **given, **more).square().sum()

    values = torch.tensor([2.0, 1.5, 3.0, 1.0], dtype=F64)
    w = values.clone().requires_grad_()
    loss(w, grad=mode).backward()
    step = 1e-5
    for k in range(4):
        change = step * torch.eye(4, dtype=F64)[k]
        difference = (loss(values + change) - loss(values - change)) / (2.0 * step)
        assert float(w.grad[k]) == pytest.approx(float(difference), rel=1e-6, abs=1e-9)
    assert float(w.grad[3]) == 0.0 and float(w.grad[:3].abs().min()) > 0.0


def test_the_levels_are_parameters_of_the_guided_model():
    w = torch.ones(3, requires_grad=True)
    den = CFG(mixture(Flow()), Levels(RHOS, w))
    assert any(p is w for p in den.parameters())
    assert den.batch is None and den.select(torch.tensor([1, 0])).scale.tensor is w
    both = Compose(mixture(Flow()), [torch.tensor([0]), torch.tensor([1])], [Levels(RHOS, w), 1.0])
    assert any(p is w for p in both.parameters())


WRONG = [
    (((), torch.ones(0)), "must be 1 or more, increasing"),
    (((1.0, 1.0), torch.ones(2)), "increasing"),
    (((0.0, 1.0), torch.ones(2)), r"rhos\[0\]=0.0"),
    (((1.0, math.inf), torch.ones(2)), r"rhos\[1\]=inf"),
    (((1.0, 2.0), torch.ones(3)), r"shape \(3,\); must be \(2,\)"),
    (((1.0, 2.0), [1.0, 2.0]), "scales"),
    (((1.0, 2.0), torch.tensor([1.0, math.nan])), "must be finite"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_wrong_levels_are_refused(given, message):
    with pytest.raises(ArgumentError, match=message):
        Levels(*given)

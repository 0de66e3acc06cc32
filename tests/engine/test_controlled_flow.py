"""RF-Inversion: its limits, the loop of its authors, and what is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

import fewstep
from fewstep.checks import ArgumentError
from fewstep.engine import rf_invert, rf_sample
from fewstep.engine.arguments import StateError
from fewstep.fused.noise.seeded import GUIDANCE_STREAM, SeededNoise
from fewstep.models import GaussianMixture, wrap
from fewstep.schedules import Flow, VPLinear

F64 = torch.float64


def model() -> GaussianMixture:
    return GaussianMixture([[1.0, 0.0], [-2.0, 3.0]], 0.6, [0.5, 0.5], Flow(), "velocity")


def data() -> Tensor:
    return torch.randn(5, 2, dtype=F64, generator=torch.Generator().manual_seed(0))


def test_without_control_it_is_euler():
    den, x0 = model(), data()
    z = rf_invert(den, x0, gamma=0.0, steps=7)
    wanted = fewstep.invert(den, x0, "flow_euler", steps=7, grid="uniform")
    torch.testing.assert_close(z, wanted, rtol=1e-12, atol=1e-12)
    found = rf_sample(den, z, x0, eta=0.0, steps=7)
    wanted = fewstep.sample(den, "flow_euler", x=z, steps=7, grid="uniform")
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 5])
def test_full_control_leads_to_the_noise_and_back_to_the_data(steps):
    den, x0 = model(), data()
    noise = SeededNoise((3, 4, 5, 6, 7), GUIDANCE_STREAM)(0, x0)
    z = rf_invert(den, x0, gamma=1.0, steps=steps, seed=3)
    torch.testing.assert_close(z, noise, rtol=1e-12, atol=1e-12)
    back = rf_sample(den, z, x0, eta=1.0, window=(0, steps), steps=steps)
    torch.testing.assert_close(back, x0, rtol=1e-12, atol=1e-12)


def test_more_control_stays_nearer_to_the_data():
    den, x0 = model(), data()
    z = rf_invert(den, x0, cond=torch.zeros(5, dtype=torch.long), steps=20)
    other = torch.ones(5, dtype=torch.long)
    far = [
        float((rf_sample(den, z, x0, window=(0, k), steps=20, cond=other) - x0).norm())
        for k in (0, 8, 16, 20)
    ]
    assert far[0] > far[1] > far[2] > far[3] > 0.0


def network(x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
    return torch.tanh(x + cond) * (1.0 + t.reshape(-1)[:1].to(x)) - 0.3 * x * cond


def test_it_is_the_loop_of_the_diffusers_community_pipeline():
    """pipeline_flux_rf_inversion.py, in its times: u = v + gamma ((y1 - Y) / (1 - t) - v) up, and
    v = -u, v + eta ((y0 - X) / (1 - t) - v) with t from noise to data down."""
    den, steps, gamma, eta = wrap(network, Flow(), "velocity", shape=(2,)), 6, 0.4, 0.7
    x0, a, b = data(), torch.full((5, 2), 0.2, dtype=F64), torch.full((5, 2), -0.9, dtype=F64)
    y1 = SeededNoise((0, 1, 2, 3, 4), GUIDANCE_STREAM)(0, x0)
    y = x0
    for now, then in pairwise([i / steps for i in range(steps + 1)]):
        v = network(y, torch.tensor(now, dtype=F64), a)
        y = y + (v + gamma * ((y1 - y) / (1.0 - now) - v)) * (then - now)
    z = rf_invert(den, x0, gamma=gamma, steps=steps, cond=a)
    torch.testing.assert_close(z, y, rtol=1e-12, atol=1e-12)
    x = z
    for i in range(steps):
        t = i / steps
        v = -network(x, torch.tensor(1.0 - t, dtype=F64), b)
        x = x + (v + (eta if 1 <= i < 4 else 0.0) * ((x0 - x) / (1.0 - t) - v)) / steps
    found = rf_sample(den, z, x0, eta=eta, window=(1, 4), steps=steps, cond=b)
    torch.testing.assert_close(found, x, rtol=1e-12, atol=1e-12)


def test_refused():
    den, x0 = model(), data()
    vp = GaussianMixture([[0.0, 0.0]], 0.6, [1.0], VPLinear())
    for wrong, error, message in (
        (lambda: rf_invert(vp, x0), ArgumentError, "on a Flow schedule"),
        (lambda: rf_sample(vp, x0, x0), ArgumentError, "on a Flow schedule"),
        (lambda: rf_invert(den, x0, gamma=1.1), ArgumentError, "gamma"),
        (lambda: rf_sample(den, x0, x0, eta=-0.1), ArgumentError, "eta"),
        (lambda: rf_sample(den, x0, x0, window=(0, 29)), ArgumentError, "stop <= 28"),
        (lambda: rf_sample(den, x0, x0, window=3), ArgumentError, "first, stop"),
        (lambda: rf_sample(den, x0[:2], x0), StateError, "noise= has shape"),
        (lambda: rf_invert(den, x0, seeds=[1]), StateError, "1 seeds"),
    ):
        with pytest.raises(error, match=message):
            wrong()

"""The residual loss: the variance of the reverse step, the weighted term, the sample estimate."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.engine.sample_estimate import sample_estimate
from fewstep.train.residual_loss import STEPS, ResidualLoss, step_variance


def test_the_variance_is_that_of_the_reverse_step_of_the_cosine_path():
    def bar(t):
        return (
            math.cos((t / STEPS + 0.008) / 1.008 * math.pi / 2) ** 2
            / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
        )

    for t in (2, 10, 50, 99):  # t = 1 has the variance of t = 2; the clip at .999 is at t = 100
        beta = 1 - bar(t) / bar(t - 1)
        wanted = beta * (1 - bar(t - 1)) / (1 - bar(t))
        sigma = torch.tensor(math.sqrt((1 - bar(t)) / bar(t)), dtype=torch.float64)
        assert abs(float(step_variance(sigma)) / wanted - 1) < 1e-9, t
    low, high = step_variance(torch.tensor([1e-6, 1e6]))
    assert 0 < low < high < 1


def test_the_term_of_a_linear_residual():
    x, sigma = torch.randn(3, 2, dtype=torch.float64), torch.tensor([0.1, 1.0, 5.0]).double()
    loss = ResidualLoss(lambda y: 2 * y, weight=0.3)
    found = loss(lambda y, s: y, x, sigma, x / 2)
    wanted = 0.3 * x.square().mean(1) / (2 * step_variance(sigma))
    torch.testing.assert_close(found, wanted)


def test_a_complex_residual_counts_by_its_modulus():
    x, sigma = torch.ones(2, 2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    real = ResidualLoss(lambda y: 5 * y)(lambda y, s: y, x, sigma, x)
    imaginary = ResidualLoss(lambda y: (3 + 4j) * y)(lambda y, s: y, x, sigma, x)
    torch.testing.assert_close(real, imaginary)


def gaussian(x, sigma):
    """E[x0 | x] for x0 of variance 1."""
    return x / (1 + sigma[:, None] ** 2)


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("dpmpp_2m", 2)])
def test_the_sample_estimate_converges_to_the_flow_of_each_noise_level(sampler, order):
    sigma = torch.tensor([0.1, 0.7, 3.0, 20.0]).double()
    x = torch.ones(4, 2, dtype=torch.float64)
    level = 0.02 * sigma  # from there the last step is one call
    flow = ((1 + level**2) / (1 + sigma**2)).sqrt() / (1 + level**2)
    errors = [
        (sample_estimate(sampler, n)(gaussian, x, sigma)[:, 0].detach() - flow).abs().max()
        for n in (40, 80)
    ]
    slope = math.log2(errors[0] / errors[1])
    assert abs(slope - order) < 0.3, slope


def test_gradients_reach_the_network_and_the_start():
    weight = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    sigma = torch.tensor([0.5, 2.0]).double()
    x = torch.ones(2, 2, dtype=torch.float64)

    def value(w):
        return sample_estimate(steps=3)(lambda y, s: w * gaussian(y, s), x, sigma).sum()

    (found,) = torch.autograd.grad(value(weight), weight)
    h = 1e-5
    with torch.no_grad():
        wanted = (value(weight + h) - value(weight - h)) / (2 * h)
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-7, atol=0)


def test_refusals():
    x = torch.ones(2, 2)
    with pytest.raises(ArgumentError, match="weight=-1"):
        ResidualLoss(lambda y: y, -1)
    with pytest.raises(ArgumentError, match="residual=3 must be a function"):
        ResidualLoss(3)
    with pytest.raises(ArgumentError, match=r"of 2 samples must be a tensor \(B, ...\)"):
        ResidualLoss(lambda y: y.sum())(lambda y, s: y, x, torch.ones(2), x)
    with pytest.raises(ArgumentError, match="draws noise"):
        sample_estimate("ddim", 3, {"eta": 1.0})
    with pytest.raises(ArgumentError, match="one number a sample"):
        sample_estimate()(gaussian, x, torch.ones(3))

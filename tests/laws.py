"""The law of many samples of a two-dimensional Gaussian, against its exact mean and covariance."""

import math

import torch

import fewstep
from fewstep.models import GaussianMixture

COUNT = 4096


def gaussian(schedule, prediction="v"):
    means, stds = (
        torch.tensor([[0.7, -0.4]], dtype=torch.float64),
        torch.tensor([[0.5, 0.3]], dtype=torch.float64),
    )
    return GaussianMixture(means, stds, [1.0], schedule, prediction)


def normals(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def check_law(out, mean, std):
    mean, variance = (
        torch.as_tensor(mean, dtype=torch.float64),
        torch.as_tensor(std, dtype=torch.float64) ** 2,
    )
    assert bool(((out.mean(0) - mean).abs() < 3.0 * torch.sqrt(variance / COUNT)).all())
    found = torch.cov(out.T)
    assert bool(
        ((found.diagonal() - variance).abs() < 3.0 * variance * math.sqrt(2.0 / COUNT)).all()
    )
    assert abs(float(found[0, 1])) < 3.0 * float(torch.sqrt(variance.prod() / COUNT))


def from_the_exact_start(plan, model):
    x = plan.start.alpha * model.sample(COUNT, seed=1) + plan.start.sigma * normals(3, COUNT, 2)
    return fewstep.run(plan, model, x, seeds=range(COUNT))

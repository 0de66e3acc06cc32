"""The one-dimensional mixture of the tests of steering: its tilt by a quadratic reward, the exact
value function, and the numbers of both, in closed form."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fewstep.models import GaussianMixture
from fewstep.schedules import Schedule, VPLinear

F64 = torch.float64
WEIGHTS, MEANS, STDS = (0.5, 0.3, 0.2), (-2.0, 0.0, 2.0), (0.3, 0.2, 0.4)
#: reward -(x - CENTRE)^2 / (2 WIDTH2)
CENTRE, WIDTH2 = 1.0, 0.36


def mixture(schedule: Schedule | None = None, prediction: str = "eps") -> GaussianMixture:
    means = [[m] for m in MEANS]
    return GaussianMixture(means, STDS, WEIGHTS, schedule or VPLinear(), prediction)


def reward(x: Any) -> Any:
    """``-(x - 1)^2 / 0.72`` of the first element."""
    return -((x.flatten(1)[:, 0] - CENTRE) ** 2) / (2.0 * WIDTH2)


def evidence(width2: float = WIDTH2) -> float:
    """``E[exp reward]`` under the mixture."""
    return sum(
        w
        * math.sqrt(width2 / (width2 + s * s))
        * math.exp(-((m - CENTRE) ** 2) / (2.0 * (width2 + s * s)))
        for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True)
    )


def components() -> list[tuple[float, float, float]]:
    """Weight, mean and variance of the components of the tilt."""
    parts = []
    for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True):
        v = s * s
        z = math.sqrt(WIDTH2 / (WIDTH2 + v)) * math.exp(-((m - CENTRE) ** 2) / (2 * (WIDTH2 + v)))
        parts.append((w * z, (m * WIDTH2 + CENTRE * v) / (WIDTH2 + v), WIDTH2 * v / (WIDTH2 + v)))
    total = sum(w for w, _, _ in parts)
    return [(w / total, m, v) for w, m, v in parts]


def moments() -> tuple[float, float]:
    """Mean and variance of the tilt."""
    parts = components()
    mean = sum(w * m for w, m, _ in parts)
    return mean, sum(w * (v + (m - mean) ** 2) for w, m, v in parts)


def above_one() -> float:
    """Probability of x > 1 under the tilt."""
    return sum(w * 0.5 * math.erfc((1.0 - m) / math.sqrt(2.0 * v)) for w, m, v in components())


def exact_value(schedule: Schedule) -> Any:
    """``value(x, t) = log E[exp reward | x_t = x]`` (B,), differentiable."""

    def value(x: Tensor, t: float) -> Tensor:
        a, s = float(schedule.alpha(t)), float(schedule.sigma(t))
        x = x.flatten(1)[:, 0].to(F64)
        w, m = (torch.tensor(v, dtype=F64) for v in (WEIGHTS, MEANS))
        v = torch.tensor(STDS, dtype=F64) ** 2
        total = a * a * v + s * s
        apart = x[:, None] - a * m
        share = torch.log_softmax(torch.log(w) - apart**2 / (2 * total) - total.log() / 2, 1)
        mean, spread = m + a * v / total * apart, WIDTH2 + v * s * s / total
        tilt = 0.5 * torch.log(WIDTH2 / spread) - (mean - CENTRE) ** 2 / (2.0 * spread)
        return torch.logsumexp(share + tilt, 1)

    return value

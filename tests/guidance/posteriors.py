"""Linear Gaussian inverse problems whose posterior is known: 6 dimensions, 3 measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from problems import F64
from torch import Tensor

from fewstep.models import BaseDenoiser
from fewstep.schedules import Schedule

D, ROWS, NOISE = 6, 3, 0.1
_G = torch.Generator().manual_seed(4)
_Q = torch.linalg.qr(torch.randn(D, D, generator=_G, dtype=F64))[0]
SIGMA = _Q @ torch.diag(torch.tensor([1.5, 1.0, 0.7, 0.4, 0.2, 0.1], dtype=F64)) @ _Q.T
MU = 0.5 * torch.randn(D, generator=_G, dtype=F64)
A = torch.randn(ROWS, D, generator=_G, dtype=F64) / math.sqrt(D)
TRUTH = MU + torch.linalg.cholesky(SIGMA) @ torch.randn(D, generator=_G, dtype=F64)
Y = A @ TRUTH + NOISE * torch.randn(ROWS, generator=_G, dtype=F64)


class GaussianPrior(BaseDenoiser):
    """The exact model of ``N(mean, covariance)``, a full matrix; counts its calls."""

    preserves_input = True

    def __init__(
        self,
        schedule: Schedule,
        prediction: str = "x0",
        mean: Tensor = MU,
        covariance: Tensor = SIGMA,
    ) -> None:
        self.schedule, self.prediction, self.shape = schedule, prediction, (len(mean),)
        self.mean, self.covariance, self.calls = mean, covariance, 0

    def gain(self, t: float) -> Tensor:
        """J = dD / dx."""
        node = self.schedule.node(t)
        inner = node.alpha**2 * self.covariance + node.sigma**2 * torch.eye(len(self.mean)).double()
        return node.alpha * self.covariance @ torch.linalg.inv(inner)

    def raws(
        self, x_in: Tensor, t: Any, cond: Any = None, channels: Sequence[str] = ("main",)
    ) -> tuple[Tensor, ...]:
        self.calls += 1
        times = [float(t)] if not isinstance(t, Tensor) or t.numel() == 1 else t.tolist()
        rows = [
            self._row(x_in if len(times) == 1 else x_in[i : i + 1], v) for i, v in enumerate(times)
        ]
        return (torch.cat(rows),)

    def _row(self, x: Tensor, t: float) -> Tensor:
        node = self.schedule.node(t)
        x0 = self.mean.to(x) + (x - node.alpha * self.mean.to(x)) @ self.gain(t).to(x).T
        if self.prediction == "x0":
            return x0
        eps = (x - node.alpha * x0) / node.sigma
        if self.prediction == "eps":
            return eps
        if self.prediction == "v":
            return node.alpha * eps - node.sigma * x0
        return node.dalpha * x0 + node.dsigma * eps

    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        return 0.0, (1.0,)


def posterior(
    matrix: Tensor = A, y: Tensor = Y, noise: float = NOISE, mean: Tensor = MU, cov: Tensor = SIGMA
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x0 given y."""
    inner = matrix @ cov @ matrix.T + noise**2 * torch.eye(len(matrix), dtype=F64)
    gain = cov @ matrix.T @ torch.linalg.inv(inner)
    return mean + gain @ (y - matrix @ mean), cov - gain @ matrix @ cov


def exact(schedule: Schedule, x: Tensor, t: float, **problem: Any) -> Tensor:
    """``E[x0 | x_t = x, y]``: the denoiser of the posterior."""
    m, s = posterior(**problem)
    return GaussianPrior(schedule, mean=m, covariance=s)(x, t)


def noised(schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x_t given y at the start of a run."""
    node = schedule.node(schedule.t_max)
    m, s = posterior()
    return node.alpha * m, node.alpha**2 * s + node.sigma**2 * torch.eye(D, dtype=F64)


def affine_law(run: Any, mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance at the end of a run whose map is affine, from ``N(mean, cov)``;
    ``run(x)``."""
    factor = torch.linalg.cholesky(cov)
    ends = run(torch.cat([mean[None], mean + factor.T]))
    columns = (ends[1:] - ends[0]).T
    return ends[0], columns @ columns.T


def errors(mean: Tensor, cov: Tensor, right: tuple[Tensor, Tensor]) -> tuple[float, float, float]:
    """e_m, e_C and q: distance of the means in posterior deviations, relative distance of the
    covariances, ratio of their traces."""
    m, s = right
    return (
        float((mean - m).norm() / s.trace().sqrt()),
        float((cov - s).norm() / s.norm()),
        float(cov.trace() / s.trace()),
    )

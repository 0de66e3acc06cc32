"""The exact problem that orders are measured on: a one-dimensional Gaussian mixture.

In one dimension the probability-flow ODE is the monotone map that preserves the cumulative
distribution, ``F_t(x_t) = F_s(x_s)`` with
``F(x) = sum_k w_k Phi((x - alpha mu_k) / sqrt(alpha^2 s_k^2 + sigma^2))``, so the exact state at
any node is a root of F, found to rounding.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ...models import GaussianMixture
from ...schedules.base import Schedule
from ...schedules.grids.construction import Grid
from ...schedules.node import Node

MEANS, STDS, WEIGHTS = (-1.3, 0.4, 1.7), (0.3, 0.2, 0.4), (0.3, 0.5, 0.2)
LAM_RANGE = (-2.0, 1.6)
#: cumulative probabilities of the states used
QUANTILES = (0.04, 0.17, 0.31, 0.46, 0.58, 0.71, 0.83, 0.96)
_MEANS, _STDS, _LOGS = np.array(MEANS), np.array(STDS), np.log(np.array(WEIGHTS) / sum(WEIGHTS))


class Unguided(GaussianMixture):
    """A mixture whose guided, conditional and unconditional predictions are equal, for samplers
    that read several: without guidance they have an order."""

    channels = ("main", "cond", "uncond")


def mixture(schedule: Schedule, prediction: str = "eps") -> GaussianMixture:
    """The mixture as a denoiser on ``schedule`` that predicts ``prediction``, shape (1,)."""
    means = torch.tensor(MEANS, dtype=torch.float64)[:, None]
    return Unguided(
        means,
        torch.tensor(STDS, dtype=torch.float64),
        torch.tensor(WEIGHTS, dtype=torch.float64),
        schedule,
        prediction,
    )


def mixture_eps(node: Node, x: np.ndarray) -> np.ndarray:
    """``E[eps | x]`` of the mixture at ``node`` for states ``x`` (n, 1), in numpy: equal to
    ``mixture(schedule)`` to rounding, and 20 times faster on a few states."""
    variance = (node.alpha * _STDS) ** 2 + node.sigma**2
    difference = x - node.alpha * _MEANS
    z = difference / variance
    logits = _LOGS - 0.5 * (difference * z + np.log(variance))
    parts = np.exp(logits - logits.max(axis=1, keepdims=True))
    eps: np.ndarray = (
        node.sigma * (parts * z).sum(axis=1, keepdims=True) / parts.sum(axis=1, keepdims=True)
    )
    return eps


@lru_cache(maxsize=64)
def smooth_grid(schedule: Schedule, steps: int, lam_range: tuple[float, float] = LAM_RANGE) -> Grid:
    """A smooth non-uniform grid between finite lam: ``u + sin(2 pi u) / (4 pi)`` mapped to
    ``lam_range``."""
    u = np.arange(steps + 1) / steps
    q = u + 0.5 * np.sin(2.0 * np.pi * u) / (2.0 * np.pi)
    lams = lam_range[0] + (lam_range[1] - lam_range[0]) * q
    return Grid.from_nodes([schedule.node_at_lam(float(v)) for v in lams], schedule)


def exact_states(node: Node, levels: tuple[float, ...] = QUANTILES) -> Tensor:
    """The exact states at ``node`` with the given cumulative probabilities, (n, 1) float64."""
    return torch.tensor([[_quantile(node, level)] for level in levels], dtype=torch.float64)


@lru_cache(maxsize=4096)
def _quantile(node: Node, level: float) -> float:
    from scipy.optimize import brentq  # type: ignore[import-untyped]

    centres = [node.alpha * m for m in MEANS]
    widths = [math.hypot(node.alpha * s, node.sigma) for s in STDS]
    parts = list(zip(WEIGHTS, centres, widths, strict=True))
    low = min(c - 12.0 * w for _, c, w in parts)
    high = max(c + 12.0 * w for _, c, w in parts)
    side, tail = (-1.0, 1.0 - level) if level > 0.5 else (1.0, level)

    def excess(x: float) -> float:
        """Mass of the nearer tail minus its target; the nearer tail avoids cancellation."""
        z = ((p, side * (c - x) / (w * math.sqrt(2.0))) for p, c, w in parts)
        return sum(p * 0.5 * math.erfc(v) for p, v in z) - tail

    return float(brentq(excess, low, high, xtol=1e-18, rtol=4.0 * np.finfo(np.float64).eps))

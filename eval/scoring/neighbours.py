"""Precision, recall, density and coverage with standard errors over the generated samples.

The jackknife leaves out one generated sample l. Precision and density change by its own share.
Coverage loses the references that only l covers. Recall loses those that lie in l's ball alone, and
gains where a ball grows because l was among its k nearest: ``rho_k`` becomes ``rho_{k+1}``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..metrics.matrices import at_least_one, couple, distance_blocks
from ..metrics.neighbours import radii
from .intervals import jackknife_error


@dataclass(frozen=True, eq=False)
class Share:
    """A metric's value and standard error over the generated samples."""

    value: float
    error: float


@dataclass(frozen=True, eq=False)
class Balls:
    """Neighbourhoods of one set: ``rho_k`` and ``rho_{k+1}`` of every sample, and the indices of
    its k nearest, (m, k)."""

    radius: Tensor
    wider: Tensor
    nearest: Tensor


def neighbourhood(
    reference: Tensor, generated: Tensor, k: int = 3, k_density: int = 5
) -> dict[str, Share]:
    """The four metrics of ``precision_recall`` with standard errors. ScoreError where a set has no
    (k+1)-th neighbour."""
    r, g = couple(reference, generated, least=2)
    at_least_one("k", k, min(len(r) - 1, len(g) - 2))
    at_least_one("k_density", k_density, len(r) - 1)
    radius, wide = radii(r, (k, k_density))
    balls = _balls(g, k)
    m, n = len(g), len(r)
    inside, hits = torch.zeros(m, dtype=torch.bool), torch.zeros(m, dtype=torch.float64)
    alone, change = torch.zeros(m, dtype=torch.float64), torch.zeros(m, dtype=torch.float64)
    covered, recalled = 0, 0
    for rows, distance in distance_blocks(r, g):
        inside |= (distance <= radius[rows, None]).any(dim=0)
        close = distance < wide[rows, None]
        hits += close.sum(dim=0)
        covered += int(close.any(dim=1).sum())
        alone += close[close.sum(dim=1) == 1].sum(dim=0)
        holds = distance <= balls.radius[None, :]
        recalled += int(holds.any(dim=1).sum())
        change += _recall_change(distance, holds, balls)
    share = float(inside.double().mean())
    return {
        "precision": Share(share, math.sqrt(share * (1.0 - share) / (m - 1))),
        "recall": Share(recalled / n, jackknife_error((recalled + change) / n)),
        "density": Share(
            float(hits.mean()) / k_density, float(hits.std()) / k_density / math.sqrt(m)
        ),
        "coverage": Share(covered / n, jackknife_error((covered - alone) / n)),
    }


def _balls(g: Tensor, k: int) -> Balls:
    radius, wider = (torch.empty(len(g), dtype=g.dtype) for _ in range(2))
    nearest = torch.empty(len(g), k, dtype=torch.int64)
    for rows, distance in distance_blocks(g, g):
        distance[torch.arange(len(distance)), torch.arange(rows.start, rows.stop)] = torch.inf
        best = distance.topk(k + 1, largest=False)
        radius[rows], wider[rows], nearest[rows] = (
            best.values[:, k - 1],
            best.values[:, k],
            best.indices[:, :k],
        )
    return Balls(radius, wider, nearest)


def _recall_change(distance: Tensor, holds: Tensor, balls: Balls) -> Tensor:
    """Change in the number of recalled references when each generated sample is left out, (m,)."""
    m = len(balls.radius)
    change = torch.zeros(m, dtype=torch.float64)
    count = holds.sum(dim=1)
    for rows, sole in (
        ((count == 0).nonzero().flatten(), False),
        ((count == 1).nonzero().flatten(), True),
    ):
        reached = (distance[rows] <= balls.wider[None, :]) & ~holds[rows]
        # the ball grows over the reference when one of the k nearest is left out
        which, ball = reached.nonzero(as_tuple=True)
        pairs = torch.unique(
            which.repeat_interleave(balls.nearest.shape[1]) * m + balls.nearest[ball].flatten()
        )
        where, gone = pairs // m, pairs % m
        if sole:
            owner = holds[rows].double().argmax(dim=1)
            change.index_add_(0, owner, torch.full((len(owner),), -1.0, dtype=torch.float64))
            # lost by leaving out the owner, regained by a growing ball
            gone = gone[gone == owner[where]]
        change.index_add_(0, gone, torch.ones(len(gone), dtype=torch.float64))
    return change

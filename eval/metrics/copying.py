"""Memorization of the training data: nearest neighbours, optionally calibrated by held-out data.

No single number isolates memorization; look at the nearest neighbours (``nearest``) as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ScoreError
from .matrices import couple, distance_blocks

#: a sample counts as a copy where its nearest training point is this much nearer than the second
RATIO = 1.0 / 3.0


@dataclass(frozen=True, eq=False)
class Memorization:
    """Memorization statistics from nearest training points.

    Attributes:
        fraction: share of samples with ``d_1 / d_2 < 1/3``, the distances to the nearest and second
            nearest training point (Yoon et al. 2023).
        authentic: share of samples farther from their nearest training point than that point is
            from its own nearest neighbour (Alaa et al. 2022, arXiv 2102.08921).
        z: Mann-Whitney z-score of the samples' nearest distances against those of held-out data;
            negative where samples are nearer to the training data (Meehan et al. 2020, arXiv
            2004.05675, with one cell). None without held-out data.
        held_out_fraction: ``fraction`` of the held-out data.
        nearest, distance: index of each sample's nearest training point, and its distance.
    """

    fraction: float
    authentic: float
    z: float | None
    held_out_fraction: float | None
    nearest: Tensor
    distance: Tensor


def memorization(generated: Any, train: Any, held_out: Any = None) -> Memorization:
    """Memorization of ``train`` (n, q) by ``generated`` (m, q), in pixels or features. ScoreError
    for fewer than 2 training rows."""
    points, samples = couple(train, generated, ("train", "generated"))
    if len(points) < 2:
        raise ScoreError("train: 1 row, must have at least 2")
    distance, nearest = two_nearest(samples, points)
    own, _ = two_nearest(points, points, skip_self=True)
    authentic = distance[:, 0] > own[nearest, 0]
    fraction = _copied(distance)
    if held_out is None:
        return Memorization(
            fraction, float(authentic.double().mean()), None, None, nearest, distance[:, 0]
        )
    _, apart = couple(train, held_out, ("train", "held_out"))
    control, _ = two_nearest(apart, points)
    z = mann_whitney(distance[:, 0], control[:, 0])
    return Memorization(
        fraction, float(authentic.double().mean()), z, _copied(control), nearest, distance[:, 0]
    )


def _copied(distance: Tensor) -> float:
    """Share of rows whose first distance is below a third of the second. A distance of 0 is a copy
    even where the training data hold duplicates."""
    return float(
        ((distance[:, 0] < RATIO * distance[:, 1]) | (distance[:, 0] == 0.0)).double().mean()
    )


def two_nearest(x: Tensor, points: Tensor, skip_self: bool = False) -> tuple[Tensor, Tensor]:
    """Distances (m, 2) of each row of ``x`` to its two nearest ``points``, and the index of the
    nearest. ``skip_self``: x is points."""
    count = min(2, len(points) - skip_self)
    found, index = torch.empty(len(x), count, dtype=x.dtype), torch.empty(len(x), dtype=torch.int64)
    for rows, distance in distance_blocks(x, points):
        if skip_self:
            distance[torch.arange(len(distance)), torch.arange(rows.start, rows.stop)] = torch.inf
        best = distance.topk(count, largest=False)
        found[rows], index[rows] = best.values, best.indices[:, 0]
    return found, index


def mann_whitney(a: Tensor, b: Tensor) -> float:
    """z-score of the number of pairs with ``a > b`` (ties count half), with the tie correction; 0
    where all values are equal."""
    from scipy.stats import mannwhitneyu, rankdata, tiecorrect  # type: ignore[import-untyped]

    m, n = len(a), len(b)
    # the p-value underflows at |z| > 38, so z is formed from U
    u = float(mannwhitneyu(a.numpy(), b.numpy(), method="asymptotic").statistic)
    variance = m * n * (m + n + 1) / 12.0 * float(tiecorrect(rankdata(torch.cat([a, b]).numpy())))
    return 0.0 if variance <= 0.0 else (u - m * n / 2.0) / math.sqrt(variance)

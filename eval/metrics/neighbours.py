"""Fidelity and diversity from nearest neighbours: improved precision and recall, density and
coverage.

``rho_k(a)`` is the distance of a to its k-th nearest neighbour in its own set, excluding itself.
With references r and generated samples g,

    precision = mean_j 1[exists i: |g_j - r_i| <= rho_k(r_i)]
    recall    = mean_i 1[exists j: |r_i - g_j| <= rho_k(g_j)]
    density   = 1/(k m) sum_ij 1[|g_j - r_i| < rho_k(r_i)]
    coverage  = mean_i 1[min_j |r_i - g_j| < rho_k(r_i)]

(Kynkaanniemi et al. 2019, arXiv 1904.06991, eq. 1 and 2; Naeem et al. 2020, arXiv 2002.09797, eq. 4
and 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .matrices import at_least_one, couple, distance_blocks


@dataclass(frozen=True)
class Neighbourhood:
    """Precision, recall, density (may exceed 1) and coverage.

    Attributes:
        precision, recall, density, coverage: the metrics.
        k, k_density: neighbours of the first two and of the last two.
        n_ref, n_gen: sizes of the sets.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    k: int
    k_density: int
    n_ref: int
    n_gen: int


def precision_recall(
    reference: Any, generated: Any, *, k: int = 3, k_density: int = 5
) -> Neighbourhood:
    """Precision, recall, density and coverage from one pass over the distances of two feature
    matrices. ScoreError for sets with too few rows."""
    r, g = couple(reference, generated, least=2)
    at_least_one("k", k, min(len(r), len(g)) - 1)
    at_least_one("k_density", k_density, len(r) - 1)
    radius, wide = radii(r, (k, k_density))
    (own,) = radii(g, (k,))
    inside = torch.zeros(len(g), dtype=torch.bool)
    recalled, covered, hits = 0, 0, 0
    for rows, distance in distance_blocks(r, g):
        inside |= (distance <= radius[rows, None]).any(dim=0)
        recalled += int((distance <= own[None, :]).any(dim=1).sum())
        close = distance < wide[rows, None]
        hits += int(close.sum())
        covered += int(close.any(dim=1).sum())
    shares = (
        float(inside.double().mean()),
        recalled / len(r),
        hits / (k_density * len(g)),
        covered / len(r),
    )
    return Neighbourhood(*shares, k, k_density, len(r), len(g))


def radii(x: Tensor, ks: tuple[int, ...]) -> list[Tensor]:
    """``rho_k`` of every row of ``x`` for each k."""
    most = max(ks)
    found = torch.empty(len(x), most, dtype=x.dtype)
    for rows, distance in distance_blocks(x, x):
        distance[torch.arange(len(distance)), torch.arange(rows.start, rows.stop)] = torch.inf
        found[rows] = distance.topk(most, largest=False).values
    return [found[:, k - 1] for k in ks]

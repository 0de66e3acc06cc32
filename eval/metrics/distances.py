"""Distances between samples of vectors: sliced and exact Wasserstein, energy distance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import ScoreError
from .intervals import Estimate
from .matrices import at_least_one, couple, distance_blocks, permutation, positive, seeded

#: quantile levels at which projections of unequal sizes are compared
LEVELS = 1024
#: largest number of directions, and largest order of a distance (higher powers overflow float64)
MOST_DIRECTIONS, HIGHEST = 1_000_000, 64.0
#: default limit on the points of an exact assignment, whose time is cubic
MOST = 5000


def sliced_wasserstein(
    reference: Any, generated: Any, *, directions: int = 500, order: float = 2.0, seed: int = 0
) -> Estimate:
    """Sliced Wasserstein distance ``SW_p = (mean_u W_p(u.x, u.y)^p)^{1/p}`` over random unit
    directions u (Bonneel et al. 2015, doi 10.1007/s10851-014-0506-3).

    One-dimensional samples use a single direction. Samples of unequal sizes are compared at 1,024
    quantile levels. ``std`` is the standard error due to the random directions.
    """
    x, y = couple(reference, generated)
    at_least_one("directions", directions, MOST_DIRECTIONS)
    order = positive("order", order, 1.0, HIGHEST)
    generator = seeded(seed)
    dim = x.shape[1]
    u = (
        torch.ones(1, 1, dtype=x.dtype)
        if dim == 1
        else torch.randn(dim, directions, generator=generator, dtype=x.dtype)
    )
    u = u / u.norm(dim=0, keepdim=True)
    costs = sliced_costs(x @ u, y @ u, order)
    mean = float(costs.mean())
    value = mean ** (1.0 / order)
    count = len(costs)
    spread = float(costs.std()) / count**0.5 if count > 1 else 0.0
    error = spread * value / (order * mean) if mean > 0.0 else 0.0
    return Estimate(value, std=error, n_ref=len(x), n_gen=len(y), seed=seed)


def sliced_costs(a: Tensor, b: Tensor, order: float) -> Tensor:
    """``W_p^p`` of each column of two matrices."""
    a, b = a.sort(dim=0).values, b.sort(dim=0).values
    if len(a) != len(b):
        levels = (torch.arange(LEVELS, dtype=a.dtype) + 0.5) / LEVELS
        # the quantile function of a sample is a step function
        a, b = (v[(levels * len(v)).long().clamp_max(len(v) - 1)] for v in (a, b))
    return (a - b).abs().pow(order).mean(dim=0)


def wasserstein(
    reference: Any, generated: Any, *, order: float = 2.0, most: int = MOST
) -> Estimate:
    """Exact ``W_p`` between two samples of equal size, by scipy's linear assignment. ScoreError
    above ``most`` points.

    The distance of a sample to its own distribution falls only as ``n^{-1/d}``; compare with the
    distance between two reference samples.
    """
    x, y = couple(reference, generated)
    if len(x) != len(y):
        raise ScoreError(f"{len(x)} and {len(y)} points: both samples must have the same size")
    at_least_one("most", most)
    order = positive("order", order, 1.0, HIGHEST)
    if len(x) > most:
        raise ScoreError(
            f"{len(x)} points, most={most}: the time is cubic; take a subset, or use "
            "sliced_wasserstein"
        )
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    cost = torch.cat([distance for _, distance in distance_blocks(x, y)]).pow(order)
    rows, columns = linear_sum_assignment(cost.numpy())
    return Estimate(float(cost[rows, columns].mean()) ** (1.0 / order), n_ref=len(x), n_gen=len(y))


def energy_distance(reference: Any, generated: Any) -> Estimate:
    """Energy distance ``2 E|x - y| - E|x - x'| - E|y - y'|``, unbiased (Szekely & Rizzo 2013, doi
    10.1016/j.jspi.2013.03.018); at least 2 points each.

    scipy's one-dimensional ``energy_distance`` is the square root of the biased estimate.
    """
    x, y = couple(reference, generated, least=2)
    across, own_x, own_y = (
        sum(float(d.sum()) for _, d in distance_blocks(a, b)) for a, b in ((x, y), (x, x), (y, y))
    )
    m, n = len(x), len(y)
    value = 2.0 * across / (m * n) - own_x / (m * (m - 1)) - own_y / (n * (n - 1))
    return Estimate(value, n_ref=m, n_gen=n)


def sliced_floor(
    reference: Any, *, directions: int = 500, order: float = 2.0, seed: int = 0
) -> Estimate:
    """``sliced_wasserstein`` between two random halves of the reference: the noise floor for
    samples of half its size."""
    x, _ = couple(reference, reference, least=2)
    mixed = x[permutation(len(x), seeded(seed))]
    half = len(x) // 2
    return sliced_wasserstein(
        mixed[:half], mixed[half : 2 * half], directions=directions, order=order, seed=seed
    )

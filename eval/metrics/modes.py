"""Mode coverage: the components of a known mixture that a sample reaches, and their shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ScoreError
from .matrices import couple, distance_blocks, matrix, numbers, positive


@dataclass(frozen=True, eq=False)
class ModeCoverage:
    """Shares of samples by mode.

    Attributes:
        quality: share of samples within ``radius`` standard deviations of some mode.
        expected: that share for the mixture itself, if its modes are well separated.
        covered: number of modes that hold at least 1 % of their expected mass.
        modes: number of modes with positive weight.
        tv, kl: total variation and ``KL(shares || weights)`` (nats).
        shares: share of samples nearest to each mode, (k,).
    """

    quality: float
    expected: float
    covered: int
    modes: int
    tv: float
    kl: float
    shares: Tensor


def mode_coverage(
    generated: Any, means: Any, std: Any, weights: Any = None, *, radius: float = 3.0
) -> ModeCoverage:
    """Compare ``generated`` (m, q) with the mixture of ``means`` (k, q), ``std`` (a number, or
    (k,)) and ``weights`` (k,), default equal.

    A sample belongs to the mode nearest in units of its standard deviation. ``expected`` is
    ``P(chi_q <= radius)``: 0.989 for radius 3 in two dimensions.
    """
    from scipy.stats import chi  # type: ignore[import-untyped]

    centres, x = couple(means, generated, ("means", "generated"))
    k = len(centres)
    width = numbers(std, "std")
    widths = matrix(width.expand(k) if width.ndim == 0 else width, "std").reshape(-1)
    shares = (
        torch.ones(k, dtype=torch.float64)
        if weights is None
        else matrix(weights, "weights").reshape(-1)
    )
    if (
        len(widths) != k
        or len(shares) != k
        or not float(widths.min()) > 0.0
        or float(shares.min()) < 0.0
        or not float(shares.sum()) > 0.0
    ):
        raise ScoreError(f"{k} means need a positive std (one, or one each) and weights >= 0")
    radius = positive("radius", radius)
    target = shares / shares.sum()
    owner, good = torch.empty(len(x), dtype=torch.int64), torch.empty(len(x), dtype=torch.bool)
    for rows, distance in distance_blocks(x, centres):
        nearest = (distance / widths).min(dim=1)
        owner[rows], good[rows] = nearest.indices, nearest.values < radius
    counts = torch.bincount(owner, minlength=k).double()
    held = torch.bincount(owner[good], minlength=k).double()
    found = counts / len(x)
    expected = float(chi.cdf(radius, x.shape[1]))
    real = target > 0.0
    covered = int((held[real] >= 0.01 * target[real] * len(x)).sum())
    kl = torch.where(found > 0.0, found * (found / target).log(), 0.0).sum()
    tv = 0.5 * float((found - target).abs().sum())
    return ModeCoverage(
        float(good.double().mean()), expected, covered, int(real.sum()), tv, float(kl), found
    )

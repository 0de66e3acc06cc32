"""The Frechet distance between Gaussians (Dowson & Landau 1982, doi 10.1016/0047-259X(82)90077-X;
Heusel et al. 2017, arXiv 1706.08500).

    FD = |mu_1 - mu_2|^2 + tr S_1 + tr S_2 - 2 tr (S_1 S_2)^{1/2}

With factors ``S_i = L_i L_i^T`` the last trace is the sum of the singular values of ``L_1^T L_2``,
and of the square roots of the eigenvalues of the symmetric ``L_1^T S_2 L_1``. Both are real and
finite for any ranks, unlike a matrix square root of ``S_1 S_2``. The eigenvalues are faster, but
the root turns a rounding error ``u`` at an eigenvalue near 0 into ``sqrt(u)``; that error is
bounded, and where the bound is too large the singular values are computed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ...checks import flag
from ..errors import ScoreError
from ..features.moments import FeatureStats

EPS = torch.finfo(torch.float64).eps
#: variances below ``SLACK q EPS`` times the largest count as rounding
SLACK = 16
#: largest relative error of the distance by eigenvalues; above it singular values are used
PRECISE = 5e-7
#: a covariance may have eigenvalues down to minus this share of the largest (float32 statistics of
#: other tools)
NEGATIVE = 1e-4


def frechet_distance(a: Any, b: Any, *, strict: bool = True) -> float:
    """The Frechet distance of two ``FeatureStats`` or feature matrices (n, q), in squared feature
    units.

    With ``strict``, statistics of different extractors or rules raise ProvenanceError. ScoreError
    for different dimensions or an invalid covariance. Negative rounding errors are clipped to 0.
    """
    flag("strict", strict)
    first, second = (
        s if isinstance(s, FeatureStats) else FeatureStats.from_features(s) for s in (a, b)
    )
    if first.dim != second.dim:
        raise ScoreError(
            f"statistics of {first.dim} and {second.dim} dimensions cannot be compared"
        )
    if strict:
        first.provenance.check(second.provenance)
    return gaussian_distance(
        first.mean, first.cov, second.mean.to(first.mean), second.cov.to(first.cov)
    )


def gaussian_distance(mean_1: Tensor, cov_1: Tensor, mean_2: Tensor, cov_2: Tensor) -> float:
    """The distance of two Gaussians from float64 tensors, which are not checked."""
    apart = float((mean_1 - mean_2).square().sum()) + float(cov_1.trace() + cov_2.trace())
    lower = triangle(cov_1)
    root, error = (0.0, math.inf) if lower is None else _quick(lower, cov_2)
    if error > PRECISE * (apart - 2.0 * root):
        root = float(
            torch.linalg.svdvals(
                (factor(cov_1) if lower is None else lower).T @ factor(cov_2)
            ).sum()
        )
    return max(apart - 2.0 * root, 0.0)


def _quick(lower: Tensor, cov: Tensor) -> tuple[float, float]:
    """``tr (S_1 S_2)^{1/2}`` from the eigenvalues of ``L^T S_2 L``, and a bound on its error."""
    values = torch.linalg.eigvalsh(lower.T @ cov @ lower)
    rounding = EPS * float(values[-1].abs()) * len(values) ** 0.5
    if float(values[0]) <= SLACK * len(values) * rounding:  # it may be 0
        return 0.0, math.inf
    roots = values.sqrt()
    return float(roots.sum()), float((rounding / roots).sum())


def triangle(cov: Tensor) -> Tensor | None:
    """The Cholesky factor, or None where the smallest eigenvalue, which is at least
    ``1 / tr S^-1``, may be rounding. (The pivots do not bound it.)"""
    lower: Tensor
    lower, failed = torch.linalg.cholesky_ex(cov)
    if int(failed):
        return None
    least = 1.0 / float(torch.cholesky_inverse(lower).trace())
    return lower if least > SLACK * len(cov) * EPS * float(cov.diagonal().max()) else None


def factor(cov: Tensor) -> Tensor:
    """``L`` (q, r) with ``L L^T = cov``, without directions whose variance is rounding. ScoreError
    for a negative variance."""
    lower = triangle(cov)
    if lower is not None:
        return lower
    values, vectors = torch.linalg.eigh(cov)
    largest = float(values[-1])
    if float(values[0]) < -NEGATIVE * max(largest, 0.0):
        raise ScoreError(
            f"not a covariance: eigenvalues from {float(values[0]):.3g} to {largest:.3g}"
        )
    kept = values > SLACK * len(values) * EPS * largest
    columns: Tensor = vectors[:, kept] * values[kept].sqrt()
    return columns

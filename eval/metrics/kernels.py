"""Maximum mean discrepancies (Gretton et al. 2012, JMLR 13): kernel distance of features, CMMD of
CLIP embeddings, MMD of vectors.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)

The unbiased estimator leaves out the diagonal of the first two terms and may be negative; the
biased one (V-statistic) includes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...checks import shown
from ..errors import ScoreError
from .intervals import Estimate
from .matrices import at_least_one, couple, permutation, positive, seeded

#: largest number of subsets and of permutations
MOST = 1_000_000
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def kernel_distance(
    reference: Any, generated: Any, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> Estimate:
    """The kernel inception distance of features (Binkowski et al. 2018, arXiv 1801.01401): unbiased
    MMD^2, ``k(x, y) = (x.y / q + 1)^3``.

    ``value`` is the mean over ``subsets`` pairs of subsets, each of ``subset_size`` rows drawn
    without replacement; ``std`` is the standard deviation of a subset's value, not of the mean.
    Slightly negative values are valid. ScoreError where a set is smaller than a subset.
    """
    x, y = couple(reference, generated, least=2)
    at_least_one("subsets", subsets, MOST)
    at_least_one("subset_size", subset_size, min(len(x), len(y)))
    if subset_size < 2:
        raise ScoreError("subset_size=1: the unbiased estimator needs 2")
    generator = seeded(seed)
    values = []
    for _ in range(subsets):
        a, b = (v[permutation(len(v), generator)[:subset_size]] for v in (x, y))
        values.append(unbiased(cubic(a, a), cubic(b, b), cubic(a, b)))
    found = torch.tensor(values, dtype=torch.float64)
    return Estimate(
        float(found.mean()),
        std=float(found.std(correction=0)),
        n_ref=len(x),
        n_gen=len(y),
        seed=seed,
    )


def cubic(a: Tensor, b: Tensor) -> Tensor:
    """The cubic kernel ``(a.b / q + 1)^3`` of all pairs of rows."""
    k = a @ b.T / a.shape[1] + 1.0
    return k * k * k


def unbiased(xx: Tensor, yy: Tensor, xy: Tensor) -> float:
    """MMD^2 without the diagonals, from the three kernel matrices."""
    m, n = len(xx), len(yy)
    own = (xx.sum() - xx.trace()) / (m * (m - 1)) + (yy.sum() - yy.trace()) / (n * (n - 1))
    return float(own - 2.0 * xy.mean())


def cmmd(
    reference: Any, generated: Any, *, sigma: float = 10.0, estimator: str = "biased"
) -> Estimate:
    """CMMD (Jayasumana et al. 2024, arXiv 2401.09603): 1000 MMD^2 with the kernel
    ``exp(-|x - y|^2 / (2 sigma^2))`` on embeddings scaled to norm 1.

    ``estimator="biased"`` is that of the published code, ``"unbiased"`` that of the paper. Meant
    for CLIP image embeddings. ScoreError for a row of zeros.
    """
    x, y = couple(reference, generated, least=2)
    if not isinstance(estimator, str) or estimator not in ("biased", "unbiased"):
        raise ScoreError(f"estimator={shown(estimator)}: allowed are 'biased' and 'unbiased'")
    sigma = positive("sigma", sigma)
    if any(float(v.norm(dim=1).min()) == 0.0 for v in (x, y)):
        raise ScoreError("an embedding of zeros cannot be scaled to norm 1")
    x, y = (v / v.norm(dim=1, keepdim=True) for v in (x, y))
    # 1 - k, of order 1 / sigma^2, keeps the digits that k near 1 would lose
    xx, yy, xy = (-torch.expm1((a @ b.T - 1.0) / sigma**2) for a, b in ((x, x), (y, y), (x, y)))
    for own in (xx, yy):
        own.fill_diagonal_(0.0)
    value = (
        float(2.0 * xy.mean() - xx.mean() - yy.mean())
        if estimator == "biased"
        else -unbiased(xx, yy, xy)
    )
    return Estimate(1000.0 * value, n_ref=len(x), n_gen=len(y))


@dataclass(frozen=True)
class TwoSample:
    """A two-sample statistic with its permutation p-value (None without permutations)."""

    value: float
    p_value: float | None
    n_ref: int
    n_gen: int


def mmd(
    reference: Any,
    generated: Any,
    *,
    bandwidths: Sequence[float] = BANDWIDTHS,
    permutations: int = 0,
    seed: int = 0,
) -> TwoSample:
    """Unbiased MMD^2 of vectors with the mean of Gaussian kernels ``exp(-|x - y|^2 / (2 b^2))``.

    Each b is one of ``bandwidths`` times the median distance within the pooled sample. With
    ``permutations`` > 0 the p-value of the permutation test is computed,
    ``(1 + #{MMD_pi >= MMD}) / (1 + permutations)``.
    """
    x, y = couple(reference, generated, least=2)
    widths = (
        list(bandwidths)
        if isinstance(bandwidths, Iterable) and getattr(bandwidths, "ndim", 1) == 1
        else []
    )
    if not widths:
        raise ScoreError(f"bandwidths={shown(bandwidths)}: must be a list of positive numbers")
    widths = [positive("bandwidths", b) for b in widths]
    if not (
        isinstance(permutations, int) and permutations == 0 and not isinstance(permutations, bool)
    ):
        at_least_one("permutations", permutations, MOST)
    pooled = torch.cat([x, y])
    squares = torch.cdist(pooled, pooled, compute_mode="donot_use_mm_for_euclid_dist").square()
    n = len(pooled)
    above = torch.triu_indices(n, n, offset=1)
    median = float(squares[above[0], above[1]].median())
    if median == 0.0:
        raise ScoreError("more than half of the distances are 0: the median gives no bandwidth")
    kernel = torch.stack([torch.exp(-squares / (2.0 * b * b * median)) for b in widths]).mean(dim=0)
    value = _split(kernel, torch.arange(n), len(x))
    if not permutations:
        return TwoSample(value, None, len(x), len(y))
    generator = seeded(seed)
    reached = sum(
        _split(kernel, permutation(n, generator), len(x)) >= value for _ in range(permutations)
    )
    return TwoSample(value, (1 + reached) / (1 + permutations), len(x), len(y))


def _split(kernel: Tensor, order: Tensor, m: int) -> float:
    """The unbiased MMD^2 between the first ``m`` of ``order`` and the rest, from a kernel matrix
    with unit diagonal."""
    first = torch.zeros(len(kernel), dtype=kernel.dtype)
    first[order[:m]] = 1.0
    second = 1.0 - first
    n = len(kernel) - m
    to_first = kernel @ first
    xx, xy = float(first @ to_first) - m, float(second @ to_first)
    yy = float(kernel.sum()) - 2.0 * xy - xx - m - n
    return xx / (m * (m - 1)) + yy / (n * (n - 1)) - 2.0 * xy / (m * n)

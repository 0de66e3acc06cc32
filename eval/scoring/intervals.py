"""Standard errors over the generated samples, at a fixed reference, by the jackknife in closed
form.

With ``T_-j`` the metric without sample j of m, ``se^2 = (m - 1)/m sum_j (T_-j - mean T_-j)^2``
(Tukey 1958), which on average is not below the variance (Efron & Stein 1981, doi
10.1214/aos/1176345462). A bootstrap draws samples twice, which is wrong for metrics of pairs and
nearest neighbours, since a sample and its copy have distance 0. The m values are updated from sums,
without recomputing the metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..metrics.kernels import cubic
from ..metrics.matrices import BLOCK

Kernel = Callable[[Tensor, Tensor], Tensor]


def normal_quantile(level: float) -> float:
    """The two-sided normal quantile: z with ``P(|N(0, 1)| < z) = level``."""
    from scipy.stats import norm  # type: ignore[import-untyped]

    return float(norm.isf(0.5 * (1.0 - level)))


def jackknife_error(without: Tensor) -> float:
    """Standard error from the m values of the metric with one sample left out."""
    m = len(without)
    return math.sqrt((m - 1) / m * float((without - without.mean()).square().sum()))


def wilson(share: float, n: int, level: float) -> tuple[float, float]:
    """Wilson interval for a share of ``n`` independent samples (Wilson 1927, doi
    10.1080/01621459.1927.10502953). Unlike the normal interval it stays in [0, 1] and has a
    positive width at shares of 0 and 1."""
    from scipy.stats import binomtest

    found = binomtest(round(share * n), n).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def row_sums(rows: Tensor, columns: Tensor, kernel: Kernel, skip_diagonal: bool = False) -> Tensor:
    """``sum_i k(row, column_i)`` of every row, in blocks. ``skip_diagonal``: rows and columns are
    one set, and no sample is paired with itself."""
    size = max(BLOCK // max(len(columns), 1), 1)
    found = []
    for i in range(0, len(rows), size):
        block = kernel(rows[i : i + size], columns)
        if skip_diagonal:
            block.diagonal(i).zero_()
        found.append(block.sum(dim=1))
    return torch.cat(found)


def kernel_distance_error(reference: Tensor, generated: Tensor, kernel: Kernel = cubic) -> float:
    """Standard error of the unbiased ``MMD^2`` with ``kernel`` over all pairs; leaving y_j out
    subtracts its two sums."""
    m, n = len(generated), len(reference)
    own = row_sums(generated, generated, kernel, skip_diagonal=True)
    cross = row_sums(generated, reference, kernel)
    without = (own.sum() - 2.0 * own) / ((m - 1) * (m - 2)) - 2.0 * (cross.sum() - cross) / (
        (m - 1) * n
    )
    return jackknife_error(without)


def cmmd_with_error(
    reference: Tensor, generated: Tensor, sigma: float = 10.0
) -> tuple[float, float, float]:
    """CMMD (biased, as ``kernels.cmmd``), its unbiased value and the standard error, without
    storing a kernel matrix."""
    x, y = (v / v.norm(dim=1, keepdim=True) for v in (reference, generated))
    n, m = len(x), len(y)

    def apart(a: Tensor, b: Tensor) -> Tensor:
        """``1 - k`` of all pairs, without the cancellation of k near 1."""
        return -torch.expm1(((a @ b.T).clamp_(max=1.0) - 1.0) / sigma**2)

    xx, own = (row_sums(v, v, apart, skip_diagonal=True) for v in (x, y))
    cross = row_sums(y, x, apart)
    between = 2.0 * float(cross.sum()) / (m * n)
    biased = between - float(xx.sum()) / n**2 - float(own.sum()) / m**2
    unbiased = between - float(xx.sum()) / (n * (n - 1)) - float(own.sum()) / (m * (m - 1))
    without = 2.0 * (cross.sum() - cross) / ((m - 1) * n) - (own.sum() - 2.0 * own) / (m - 1) ** 2
    return 1000.0 * biased, 1000.0 * unbiased, 1000.0 * jackknife_error(without)


def inception_parts(logits: Tensor) -> tuple[float, Tensor]:
    """Inception Score ``exp(H(mean p) - mean H(p))`` of logits (m, classes), and its m values with
    one row left out."""
    logs = torch.log_softmax(logits, dim=1)
    p = logs.exp()
    own = torch.special.xlogy(p, p).sum(dim=1)  # negative entropy of each row
    m = len(p)

    def information(mean: Tensor, sure: Tensor) -> Tensor:
        return torch.exp(sure - torch.special.xlogy(mean, mean).sum(dim=-1))

    total = p.sum(dim=0)
    value = information(total / m, own.mean())
    without = information(((total - p) / (m - 1)).clamp_min(0.0), (own.sum() - own) / (m - 1))
    return float(value), without

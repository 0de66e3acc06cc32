"""The Inception Score from any classifier's logits (Salimans et al. 2016, arXiv 1606.03498, section
4)."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import ScoreError
from .intervals import Estimate
from .matrices import at_least_one, matrix, permutation, seeded


def inception_score(logits: Any, *, splits: int = 10, seed: int = 2020) -> Estimate:
    """Inception Score ``exp E_x KL(p(y|x) || p(y))`` of logits (m, classes): mean and standard
    deviation over ``splits`` parts of the shuffled rows.

    Comparable with published numbers only for the Inception network's logits without bias, with 10
    splits. ScoreError for fewer than 2 classes.
    """
    z = matrix(logits, "logits", 2)
    if z.shape[1] < 2:
        raise ScoreError(
            "the Inception Score needs at least 2 classes: logits must be (m, classes)"
        )
    at_least_one("splits", splits, len(z))
    logs = torch.log_softmax(z[permutation(len(z), seeded(seed))], dim=1)
    values = []
    for part in logs.tensor_split(splits):
        marginal = torch.logsumexp(part, dim=0) - torch.log(
            torch.tensor(float(len(part)), dtype=torch.float64)
        )
        divergence = (part.exp() * (part - marginal)).nan_to_num(nan=0.0)  # 0 log 0 is 0
        values.append(divergence.sum(dim=1).mean().exp())
    found = torch.stack(values)
    return Estimate(
        float(found.mean()), std=float(found.std(correction=0)), n_gen=len(z), seed=seed
    )

"""How long a trajectory follows its reference."""

from __future__ import annotations

import torch
from torch import Tensor

from ....checks import ArgumentError, between
from .comparisons import couple
from .residuals import ratio


def correlation(field: Tensor, reference: Tensor) -> Tensor:
    """Pearson's correlation at each time, (B, T), of fields (B, T, space) whose mean over the space
    is removed; of complex fields the real part. 1 where both are constant."""
    u, true = couple(field, reference)
    if u.ndim < 3:
        raise ArgumentError(f"fields must be (B, T, space), got shape {tuple(u.shape)}")
    u, true = (v.flatten(2) - v.flatten(2).mean(2, keepdim=True) for v in (u, true))
    product = (u * true.conj()).sum(2).real
    sizes = u.norm(dim=2) * true.norm(dim=2)
    both = (u.norm(dim=2) == 0.0) & (true.norm(dim=2) == 0.0)
    return torch.where(both, torch.ones_like(product), ratio(product, sizes))


def correlation_time(field: Tensor, reference: Tensor, dt: float, threshold: float = 0.8) -> Tensor:
    """First time, (B,), at which the correlation falls below ``threshold``; times are ``dt`` apart
    and begin at 0. ``dt T`` for a sample that stays above it at all T times."""
    between("dt", dt, 0.0)
    between("threshold", threshold, -1.0, 1.0)
    above = correlation(field, reference) >= threshold
    return dt * above.long().cumprod(1).sum(1).double()

"""Sums over the elements of each sample, with the same bits for any batch
(``plans.running.halves``)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.exact import wide
from ...plans.running.halves import halved_sum as halved_sum


def inner_products(*pairs: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Return ``<a, b>`` of each sample for each pair of tensors (B, *shape), in float64 (float32
    on devices without it), each as (B, 1, ..., 1), which broadcasts against (B, *shape)."""
    first = pairs[0][0]
    precision = wide(first.device)
    products = torch.stack(
        [(a.to(precision) * b.to(precision)).reshape(a.shape[0], -1) for a, b in pairs]
    )
    column = (first.shape[0],) + (1,) * (first.ndim - 1)
    return tuple(total.reshape(column) for total in halved_sum(products).unbind(0))


def divided(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a / b``, and 0 where b = 0."""
    return torch.where(b == 0.0, 0.0, a / torch.where(b == 0.0, 1.0, b))

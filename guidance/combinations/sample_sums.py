"""Sums over the elements of each sample, with the same bits for any batch.

A library's sum over an axis may add in another order for another batch size. Here halves are added
to each other, so that each addition is elementwise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.exact import wide


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


def halved_sum(values: Tensor) -> Tensor:
    """Return the sum over the last axis; each partial sum adds one half to the other."""
    while (count := values.shape[-1]) > 1:
        half = count // 2
        pairs = values[..., :half] + values[..., half : 2 * half]
        values = torch.cat([pairs, values[..., 2 * half :]], -1) if count % 2 else pairs
    return values.squeeze(-1)


def divided(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a / b``, and 0 where b = 0."""
    return torch.where(b == 0.0, 0.0, a / torch.where(b == 0.0, 1.0, b))

"""Sum over an axis with the same bits for any batch.

A library's sum over an axis may add in another order for another batch size. Here halves are added
to each other, so that each addition is elementwise.
"""

from __future__ import annotations

import torch
from torch import Tensor


def halved_sum(values: Tensor) -> Tensor:
    """Return the sum over the last axis; each partial sum adds one half to the other."""
    while (count := values.shape[-1]) > 1:
        half = count // 2
        pairs = values[..., :half] + values[..., half : 2 * half]
        values = torch.cat([pairs, values[..., 2 * half :]], -1) if count % 2 else pairs
    return values.squeeze(-1)

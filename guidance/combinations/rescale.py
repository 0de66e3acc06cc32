"""Rescaling of a guided prediction to the standard deviation of the conditional one."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.exact import wide
from .sample_sums import halved_sum


def rescaled(guided: Tensor, cond: Tensor, share: float) -> Tensor:
    """Return ``share r + (1 - share) m_w`` with ``r = m_w std(m_c) / std(m_w)`` (Lin et al. 2023,
    arXiv 2305.08891, eqs. 15, 16).

    ``guided`` m_w and ``cond`` m_c are (B, *shape); std is over all elements of a sample. A
    constant m_w is returned unchanged. The result is in float32 or better.
    """
    own, target = spread(guided), spread(cond)
    ratio = torch.where(own > 0.0, target / torch.where(own > 0.0, own, 1.0), 1.0)
    kept = torch.promote_types(guided.dtype, torch.float32)
    factor = (share * ratio + (1.0 - share)).to(kept).reshape(-1, *(1,) * (guided.ndim - 1))
    return factor * guided.to(kept)


def spread(values: Tensor) -> Tensor:
    """Return the square root of the sum of squared deviations from the mean of each sample (B,), in
    float64 (float32 on devices without it): proportional to the standard deviation."""
    flat = values.reshape(values.shape[0], -1).to(wide(values.device))
    deviations = flat - (halved_sum(flat) / flat.shape[1])[:, None]
    return halved_sum(deviations * deviations).sqrt()

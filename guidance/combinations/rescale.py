"""Rescaling of a guided prediction to the standard deviation of the conditional one."""

from __future__ import annotations

import torch
from torch import Tensor


def rescaled(guided: Tensor, cond: Tensor, share: float) -> Tensor:
    """Return ``share r + (1 - share) m_w`` with ``r = m_w std(m_c) / std(m_w)`` (Lin et al. 2023,
    arXiv 2305.08891, eqs. 15, 16).

    ``guided`` m_w and ``cond`` m_c are (B, *shape); std is over all elements of a sample. A
    constant m_w is returned unchanged. The result is in float32 or better.
    """
    wide = torch.promote_types(guided.dtype, torch.float32)
    own, target = (v.to(wide).flatten(1).std(1) for v in (guided, cond))
    ratio = torch.where(own > 0.0, target / torch.where(own > 0.0, own, 1.0), 1.0)
    factor = (share * ratio + (1.0 - share)).reshape(-1, *(1,) * (guided.ndim - 1))
    return factor * guided.to(wide)

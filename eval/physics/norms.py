"""Norms of fields, one number a sample."""

from __future__ import annotations

import torch
from torch import Tensor


def rms(value: Tensor) -> Tensor:
    """Root mean square over all but the first axis, (B,)."""
    square: Tensor = value.abs().square().flatten(1).mean(1).sqrt()
    return square


def largest(*terms: Tensor) -> Tensor:
    """Root mean square of the largest of ``terms`` in each sample, (B,)."""
    return torch.stack([rms(term) for term in terms]).amax(0)


def wall_error(u: Tensor) -> Tensor:
    """Root mean square of ``u`` (B, X, Y) over the nodes of the walls, relative to that over all
    nodes, (B,); 0 where u is 0."""
    walls = torch.cat([u[:, 0], u[:, -1], u[:, 1:-1, 0], u[:, 1:-1, -1]], 1)
    return rms(walls) / rms(u).clamp(min=torch.finfo(u.dtype).tiny)

"""Conjugate gradients for a batch of linear systems."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..combinations.sample_sums import divided, inner_products

#: size of a residual that is rounding, in units of eps times the right side
ROUNDING = 8.0


def conjugate_gradients(product: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> Tensor:
    """``iterations`` steps of conjugate gradients for ``M v = b`` from v = 0 (Hestenes & Stiefel
    1952), each sample by itself; M symmetric and not negative, ``product(v)`` is M v.

    A sample stops where its residual is rounding, since further directions may leave the range of
    a singular M; and where its direction p has no positive ``<p, M p>``, as M of the Jacobian of a
    trained network may have.
    """
    v, r, p = torch.zeros_like(b), b, b
    (size,) = inner_products((r, r))
    rounding = (ROUNDING * torch.finfo(b.dtype).eps) ** 2 * size
    for k in range(iterations):
        image = product(p)
        (curvature,) = inner_products((p, image))
        goes = (curvature > 0.0) & (size > rounding)
        step = torch.where(goes, divided(size, curvature), 0.0)
        v = v + step.to(b) * p
        if k + 1 == iterations:
            break
        r = r - step.to(b) * image
        (left,) = inner_products((r, r))
        go = torch.where(step > 0.0, divided(left, size), 0.0)
        p = torch.where(step > 0.0, r + go.to(b) * p, torch.zeros_like(p))
        size = left
    return v

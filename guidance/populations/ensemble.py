"""The ensemble move of Kalman-type methods: particles move along their own differences, without a
gradient of the forward model or of the network.

    C_jk = (1/J) <e_j, Y_k - Ybar>,     x_j <- x_j - w sum_k C_jk (x_k - xbar),     w = g / ||C||_F

Y (J, m) are the outputs of the forward model and ``e = (1/2) grad_Y loss``, which is Y - y for the
squared error. To first order ``sum_k C_jk (x_k - xbar)`` is ``Cov(x) A^T e_j``: a gradient step
preconditioned by the covariance of the ensemble.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cross_products(outputs: Tensor, errors: Tensor) -> Tensor:
    """Return C (J, J) from Y (J, m) and e (J, m), over the particles whose Y and e are finite; rows
    and columns of the others are 0."""
    finite = (torch.isfinite(outputs) & torch.isfinite(errors)).all(1, keepdim=True)
    count = finite.sum().clamp(min=1)
    y = torch.where(finite, outputs, 0.0)
    away = torch.where(finite, y - y.sum(0) / count, 0.0)
    return torch.where(finite, errors, 0.0) @ away.T / count


def moved(x: Tensor, c: Tensor, scale: float) -> Tensor:
    """Return ``x - scale / ||C||_F C (x - xbar)`` for one ensemble x (J, d); x itself where
    ``C = 0``, as for one particle.

    ``sum_k C_jk = 0``, so xbar cancels: it only keeps the differences small. The move commutes with
    translations and with factors of x.
    """
    norm = torch.linalg.matrix_norm(c)
    w = torch.where(norm > 0.0, scale / norm, 0.0)
    away = (x - x.mean(0)).to(c.dtype)
    return x - (w * (c @ away)).to(x.dtype)

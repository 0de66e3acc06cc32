"""Free oscillations: the exact solution of ``v'' = -w^2 v`` for every mode."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def oscillate(
    start: Tensor, speed: Tensor, angular: Tensor, times: Tensor
) -> tuple[Tensor, Tensor]:
    """``v = cos(w t) start + sin(w t)/w speed`` and its time derivative, (B, T, ...).

    ``start`` and ``speed`` are v and v' at t = 0, (B, ...), real or complex; ``angular`` is w >= 0,
    of a shape that broadcasts with them, one axis a mode; ``times`` (T,).
    """
    start, speed = start[:, None], speed[:, None]
    w = angular.expand(start.shape[0], *start.shape[2:])[:, None]
    t = times.reshape(-1, *(1,) * (start.ndim - 2))
    cosine, sine = torch.cos(w * t), torch.sin(w * t)
    # sin(w t) / w, which is t at w = 0
    swing = t * torch.sinc(w * t / math.pi)
    return cosine * start + swing * speed, cosine * speed - w * sine * start

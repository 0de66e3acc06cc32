"""Metrics of paired images, one value a pair: PSNR and SSIM. (LPIPS, which needs weights, is in
``perceptual``.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import ScoreError
from .matrices import numbers, positive

#: SSIM: side and standard deviation of its window, and its constants
WINDOW, DEVIATION, K1, K2 = 11, 1.5, 0.01, 0.03


def psnr(a: Any, b: Any, *, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio ``10 log10(data_range^2 / MSE)`` in dB of each pair, (n,);
    infinite for equal images. Average these values, not the MSE."""
    x, y, data_range = _images(a, b, data_range)
    mse = (x - y).square().flatten(1).mean(dim=1)
    return 10.0 * torch.log10(data_range**2 / mse)


def ssim(a: Any, b: Any, *, data_range: float) -> Tensor:
    """Structural similarity of each pair of images (n, c, h, w), (n,) (Wang et al. 2004, doi
    10.1109/TIP.2003.819861, eq. 13).

    Gaussian window of side 11 and standard deviation 1.5, population moments, windows inside the
    image only, mean over positions and channels (torchmetrics also counts windows over reflected
    edges).
    """
    x, y, data_range = _images(a, b, data_range)
    if x.ndim != 4 or min(x.shape[2:]) < WINDOW:
        raise ScoreError(
            f"images of shape {tuple(x.shape)}: must be (n, c, h, w) with sides >= {WINDOW}"
        )
    n, c, h, w = x.shape
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    row = torch.exp(-offsets.square() / (2.0 * DEVIATION**2))
    row = row / row.sum()
    stack = torch.stack([x, y, x * x, y * y, x * y]).reshape(5 * n * c, 1, h, w)
    smooth = torch.nn.functional.conv2d(
        torch.nn.functional.conv2d(stack, row.view(1, 1, -1, 1)), row.view(1, 1, 1, -1)
    )
    mx, my, xx, yy, xy = smooth.reshape(5, n, -1)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    similar = (2.0 * mx * my + c1) * (2.0 * (xy - mx * my) + c2)
    scale = (mx**2 + my**2 + c1) * (xx - mx**2 + yy - my**2 + c2)
    means: Tensor = (similar / scale).mean(dim=1)
    return means


def _images(a: Any, b: Any, data_range: float) -> tuple[Tensor, Tensor, float]:
    x, y = (numbers(v, name) for v, name in ((a, "a"), (b, "b")))
    if x.is_complex() or y.is_complex():
        raise ScoreError(f"images must be real, got {x.dtype} and {y.dtype}")
    x, y = x.to(torch.float64), y.to(torch.float64)
    if x.shape != y.shape or x.ndim < 2 or not x.numel():
        raise ScoreError(
            f"pairs of shapes {tuple(x.shape)} and {tuple(y.shape)}: must be equal, non-empty and "
            "(n, ...)"
        )
    data_range = positive("data_range", data_range)
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise ScoreError("an image holds NaN or infinity")
    return x, y, data_range

"""Random augmentation of training images: shifts by a few pixels, and mirror images."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def shifted(
    image: Tensor, generator: torch.Generator, most: int = 2, fill: str = "black"
) -> Tensor:
    """Shift each image (n, c, h, h) by up to ``most`` pixels in both directions; the border is -1
    or a reflection."""
    n, _, height, width = image.shape
    edges = (most,) * 4
    padded = (
        nn.functional.pad(image, edges, value=-1.0)
        if fill == "black"
        else nn.functional.pad(image, edges, mode="reflect")
    )
    moves = torch.randint(0, 2 * most + 1, (2, n), generator=generator)
    rows = moves[0][:, None] + torch.arange(height)
    columns = moves[1][:, None] + torch.arange(width)
    which = torch.arange(n)[:, None, None]
    return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(
        0, 3, 1, 2
    )


def mirrored(image: Tensor, which: Tensor) -> Tensor:
    """Exchange left and right in those images (n, c, h, w) for which ``which`` (n,) is true."""
    return torch.where(which[:, None, None, None], image.flip(3), image)


def square_symmetry(x: Tensor, generator: torch.Generator) -> Tensor:
    """Apply to each sample (n, c, h, h) one of the eight symmetries of the square, each equally
    likely: both reflections and the exchange of the axes, by three coins."""
    coins = torch.rand((3, x.shape[0]), generator=generator)[:, :, None, None, None] < 0.5
    x = torch.where(coins[0], x.flip(-1), x)
    x = torch.where(coins[1], x.flip(-2), x)
    return torch.where(coins[2], x.transpose(-1, -2), x)

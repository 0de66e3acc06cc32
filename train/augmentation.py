"""Random changes of training images: shifts by a few pixels, and mirror images."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def shifted(
    image: Tensor, generator: torch.Generator, most: int = 2, fill: str = "black"
) -> Tensor:
    """Images (n, c, h, h), each moved by up to ``most`` pixels in both directions, filled with -1
    or by reflection."""
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
    """Images (n, c, h, w), those where ``which`` (n,) is true with left and right exchanged."""
    return torch.where(which[:, None, None, None], image.flip(3), image)

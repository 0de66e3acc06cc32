"""Samples side by side as one small PNG."""

from __future__ import annotations

import io

import torch
from torch import Tensor

from ...features.grey_levels import to_uint8

#: pixels between two samples
GAP = 1


def strip(x: Tensor) -> bytes:
    """PNG of the images ``x`` (n, c, h, w) in [-1, 1], c 1 or 3, from left to right; what is not
    finite is black."""
    from PIL import Image

    pixels = to_uint8(torch.nan_to_num(x.float(), nan=-1.0, posinf=1.0, neginf=-1.0)).permute(
        0, 2, 3, 1
    )
    n, h, w, c = pixels.shape
    sheet = torch.full((h, n * (w + GAP) - GAP, c), 128, dtype=torch.uint8)
    for i in range(n):
        sheet[:, i * (w + GAP) : i * (w + GAP) + w] = pixels[i]
    out = io.BytesIO()
    image = Image.fromarray((sheet[..., 0] if c == 1 else sheet).numpy())
    image.save(out, format="PNG", optimize=True)
    return out.getvalue()

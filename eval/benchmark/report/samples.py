"""Samples side by side as one small PNG, or the coordinates of samples that are points."""

from __future__ import annotations

import base64
import io
from typing import Any

import torch
from torch import Tensor

from ...features.grey_levels import to_uint8

#: samples in a picture, and points in a scatter plot
SHOWN, DOTS = 8, 64
#: pixels between two samples
GAP = 1


def shown(x: Tensor) -> dict[str, Any]:
    """Return ``picture`` (PNG of the first images in base64) and ``points`` (the first points).

    ``x``: (n, c, h, w) images with c = 1 or 3, or (n, d) points, of which two coordinates are kept.
    The entry that does not apply is None; both are for samples of any other shape.
    """
    picture = points = None
    if x.ndim == 4 and x.shape[1] in (1, 3):
        picture = base64.b64encode(strip(x[:SHOWN])).decode()
    if x.ndim == 2:
        flat = x[:DOTS].double()
        second = flat[:, 1] if flat.shape[1] > 1 else torch.zeros(len(flat))
        pairs = zip(flat[:, 0].tolist(), second.tolist(), strict=True)
        points = tuple((round(a, 3), round(b, 3)) for a, b in pairs)
    return {"picture": picture, "points": points}


def strip(x: Tensor) -> bytes:
    """Return the PNG of the images ``x`` (n, c, h, w) in [-1, 1] from left to right, c 1 or 3.

    NaN is drawn as -1 (black); infinities are clipped to the range.
    """
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

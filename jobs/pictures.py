"""Samples as pictures: values in [-1, 1] as PNG files, a grid of images or of fields, a scatter of
points."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import ArgumentError

if TYPE_CHECKING:
    from PIL import Image

SCATTER, BACK, INK = 480, (255, 255, 255), (31, 98, 180)


def is_image(shape: Sequence[int]) -> bool:
    """True if a sample of this shape is a grey or RGB picture."""
    return len(shape) == 3 and shape[0] in (1, 3)


def to_pixels(x: Any) -> Any:
    """A float array (..., c, h, w) in [-1, 1] as uint8 (..., h, w, c); values outside are clipped.
    Raises ArgumentError for NaN."""
    if np.isnan(np.asarray(x)).any():
        raise ArgumentError("samples contain NaN")
    scaled = np.clip((np.asarray(x, dtype=np.float64) + 1.0) * 127.5, 0.0, 255.0)
    return np.moveaxis(np.rint(scaled).astype(np.uint8), -3, -1)


def picture(pixels: Any) -> Image.Image:
    """One sample's uint8 (h, w, c) as an image."""
    from PIL import Image

    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG file; they depend on the pixels only."""
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return out.getvalue()


def image_grid(pixels: Any, least: int = 512) -> Image.Image:
    """All samples (n, h, w, c) in a near-square grid, row by row, one pixel apart; small ones are
    enlarged by an integer factor."""
    from PIL import Image

    n, h, w, c = pixels.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (h + 1) - 1, columns * (w + 1) - 1, c), 128, dtype=np.uint8)
    for i in range(n):
        top, left = (i // columns) * (h + 1), (i % columns) * (w + 1)
        sheet[top : top + h, left : left + w] = pixels[i]
    image = picture(sheet)
    factor = max(1, math.ceil(least / max(image.size)))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def field_pixels(x: Any) -> Any:
    """Samples (n, c, h, w) of any number of channels as grey uint8 (n, h, c w, 1): the channels
    side by side, black is -1 and white 1."""
    n, c, h, w = np.shape(x)
    return to_pixels(np.moveaxis(np.asarray(x), 1, 2).reshape(n, 1, h, c * w))


def scatter(points: Any) -> Image.Image:
    """The first two coordinates of every sample (n, d) as dots."""
    from PIL import Image, ImageDraw

    xy = np.asarray(points, dtype=np.float64).reshape(len(points), -1)[:, :2]
    if xy.shape[1] == 1:
        xy = np.column_stack([xy, np.zeros(len(xy))])
    reach = 1.1 * max(float(np.abs(xy).max()), 1e-9)
    image = Image.new("RGB", (SCATTER, SCATTER), BACK)
    pen = ImageDraw.Draw(image)
    for a, b in xy:
        u, v = (a / reach + 1.0) * SCATTER / 2, (1.0 - b / reach) * SCATTER / 2
        pen.ellipse((u - 2, v - 2, u + 2, v + 2), fill=INK)
    return image

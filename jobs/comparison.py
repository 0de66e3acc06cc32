"""Before and after: measurement, reconstruction and truth of samples side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import ArgumentError
from . import pictures

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..guidance.operators.operator import Operator

#: grey of the line between two pictures of a sample
LINE = 128


def seen(operator: Operator, y: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """What a measurement y (B, *measured) shows, as samples (B, *shape): y itself where it has
    their shape, its pseudo-inverse, or ``A^T y`` scaled to [-1, 1]; None where there is none."""
    import torch

    if tuple(y.shape[1:]) == shape:
        return y
    try:
        with torch.no_grad():
            if operator.invertible:
                return operator.pinverse(y).reshape(-1, *shape)
            back = operator.adjoint(y).reshape(-1, *shape) if operator.linear else None
    except ArgumentError:
        return None
    if back is None:
        return None
    most = back.abs().flatten(1).amax(1).clamp_min(1e-12)
    return back / most.reshape(-1, *(1,) * len(shape))


def to_pixels(x: Tensor) -> Any:
    """Samples (n, c, h, w) as uint8 (n, h, w, c)."""
    values = x.detach().cpu().numpy()
    image = pictures.is_image(values.shape[1:])
    return pictures.to_pixels(values) if image else pictures.field_pixels(values)


def comparison(columns: Sequence[Any]) -> Image.Image:
    """The picture of ``columns``, each uint8 (n, h, w, c): those of a sample side by side, the
    samples in a grid."""
    n, h, _, c = columns[0].shape
    line = np.full((n, h, 1, c), LINE, dtype=np.uint8)
    parts = [part for column in columns for part in (line, column)][1:]
    return pictures.image_grid(np.concatenate(parts, axis=2))

"""Images as grey levels: uint8 tensors (n, c, h, w) from tensors, arrays or batches of images.

uint8 images are taken as they are. Floating point images lie in [-1, 1] unless
``value_range=(low, high)`` is given, and are rounded as a saved picture is:

    round   floor(clip(127.5 x + 128, 0, 255))          (EDM)
    floor   floor(clip(255 (x + 1) / 2, 0, 255))        (score_sde)

Without ``value_range``, values that cannot be in [-1, 1] raise ScoreError (see ``value_range``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...checks import shown, tensor
from ..errors import ScoreError
from ..metrics.matrices import at_least_one
from .value_range import SIGNED, Range, Values, check_range

QUANTIZE = ("round", "floor")


def to_uint8(image: Any, quantize: str = "round", value_range: Range = None) -> Tensor:
    """Round a batch of images (n, c, h, w) to grey levels.

    uint8 images are returned as they are; floating point images lie in ``value_range``, by default
    [-1, 1], and values outside are clamped. The range of a single batch is not checked (``levels``
    checks all batches together). Raises ScoreError for anything else.
    """
    one_of("quantize", quantize, QUANTIZE)
    limits = check_range(value_range)
    given = image_batch(image)
    if given.dtype == torch.uint8:
        return given
    x = given.to(torch.float32)
    low, high = limits or SIGNED
    if (low, high) == SIGNED:
        level = 127.5 * x + 128.0 if quantize == "round" else 255.0 * (x + 1.0) / 2.0
    else:
        level = (x - low) * (255.0 / (high - low)) + (0.5 if quantize == "round" else 0.0)
    return level.clamp(0.0, 255.0).floor().to(torch.uint8)


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise ScoreError unless ``value`` is one of ``allowed``."""
    if not isinstance(value, str) or value not in allowed:
        raise ScoreError(f"{name}={shown(value)}: allowed are {', '.join(allowed)}")


def image_batch(image: Any) -> Tensor:
    """``image`` as a tensor (n, c, h, w), uint8 or finite floating point. Raises ScoreError for
    anything else."""
    try:
        given = torch.as_tensor(image).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ScoreError(
            "images must be a tensor, an array or batches of them, got "
            f"{type(image).__name__}: {error}"
        ) from error
    tensor("images", given, floating=False, error=ScoreError)
    if given.ndim != 4 or not (given.dtype == torch.uint8 or given.is_floating_point()):
        raise ScoreError(
            f"images must be uint8 or floating point (n, c, h, w), got {given.dtype} "
            f"{tuple(given.shape)}"
        )
    if given.is_floating_point() and not bool(torch.isfinite(given).all()):
        bad = (~torch.isfinite(given)).flatten(1).any(dim=1).nonzero().flatten().tolist()
        raise ScoreError(f"{len(bad)} images hold NaN or infinity, first {bad[:5]}")
    return given


def levels(
    images: Any, batch: int, quantize: str, value_range: Any = None
) -> Iterator[tuple[Tensor, Values]]:
    """Iterate over batches of grey levels (uint8), each with the ``Values`` of all images so far.

    Raises ScoreError where the values of all images are not consistent with ``value_range``: before
    the first batch for a single tensor, after the last one for an iterable of batches.
    """
    limits = check_range(value_range)
    at_least_one("batch", batch)
    if hasattr(images, "shape"):
        whole = image_batch(images)
        Values.of(whole, limits).judge(limits)
        images = whole
    seen = Values()
    for piece in _pieces(images, batch):
        given = image_batch(piece)
        seen += Values.of(given, limits)
        yield to_uint8(given, quantize, limits), seen
    seen.judge(limits)
    if limits is not None and not seen.count:
        raise ScoreError(
            f"value_range={limits}: none of the images is floating point; uint8 images are 0..255"
        )


def _pieces(images: Any, batch: int) -> Iterable[Any]:
    if not hasattr(images, "shape"):
        return (
            _refuse(images)
            if isinstance(images, str | bytes | Path | Mapping) or not isinstance(images, Iterable)
            else images
        )
    return [images[i : i + batch] for i in range(0, len(images), batch)]


def _refuse(images: Any) -> Iterable[Any]:
    files = "of files: `open_source(PATH).read(i, j).image`"
    raise ScoreError(
        f"images must be a tensor, an array or batches of them ({files}), got "
        f"{type(images).__name__}"
    )

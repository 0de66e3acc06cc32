"""The Laplacian pyramid of images of any size.

    blur      the binomial filter (1, 4, 6, 4, 1) / 16 along each axis, mirrored at the borders
    down      blur, then linear interpolation at half the size, rounded up
    up        linear interpolation at the larger size, then blur
    level l   g_l - up(g_{l+1}) with g_0 the image and g_{l+1} = down(g_l); the last level is g_l

(Burt & Adelson 1983, IEEE Trans. Commun. 31(4); the filter, borders and interpolation are those of
``build_laplacian_pyramid`` of kornia, which pads sizes that are no powers of two.) All operations
are elementwise, so that an image has the same bits in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

#: the last two axes of an image tensor
AXES = (-2, -1)
_FILTER = ((-2, 1.0 / 16.0), (-1, 4.0 / 16.0), (0, 6.0 / 16.0), (1, 4.0 / 16.0), (2, 1.0 / 16.0))


def pyramid(image: Tensor, levels: int) -> list[Tensor]:
    """Return the ``levels`` levels of ``image`` (..., H, W), the finest first."""
    found = []
    for _ in range(levels - 1):
        smaller = down(image)
        found.append(image - up(smaller, image.shape[-2:]))
        image = smaller
    return [*found, image]


def collapsed(levels: Sequence[Tensor]) -> Tensor:
    """Return the image (..., H, W) with these levels, the finest first."""
    image = levels[-1]
    for level in reversed(levels[:-1]):
        image = up(image, level.shape[-2:]) + level
    return image


def down(image: Tensor) -> Tensor:
    """Return ``image`` (..., H, W) blurred, at half its size, rounded up."""
    for axis in AXES:
        image = _resized(_blurred(image, axis), axis, (image.shape[axis] + 1) // 2)
    return image


def up(image: Tensor, size: Sequence[int]) -> Tensor:
    """Return ``image`` (..., h, w) at the size (H, W), blurred."""
    for axis, count in zip(AXES, size, strict=True):
        image = _blurred(_resized(image, axis, count), axis)
    return image


def _blurred(image: Tensor, axis: int) -> Tensor:
    count = image.shape[axis]
    terms = (
        _taken(image, axis, [_mirrored(i + shift, count) for i in range(count)]) * weight
        for shift, weight in _FILTER
    )
    total = next(terms)
    for term in terms:
        total = total + term
    return total


def _resized(image: Tensor, axis: int, count: int) -> Tensor:
    """Linear interpolation along ``axis``, with pixels as cells: pixel i is at i + 1/2."""
    last = image.shape[axis] - 1
    places = [max(0.0, (i + 0.5) * (last + 1) / count - 0.5) for i in range(count)]
    below = [min(math.floor(p), last) for p in places]
    share = _on(tuple(p - b for p, b in zip(places, below, strict=True)), image.device, image.dtype)
    share = share.reshape(-1, *(1,) * (-1 - axis))
    low = _taken(image, axis, below)
    high = _taken(image, axis, [min(b + 1, last) for b in below])
    return (1.0 - share) * low + share * high


def _taken(image: Tensor, axis: int, places: Sequence[int]) -> Tensor:
    return image.index_select(axis, _on(tuple(places), image.device, torch.int64))


@lru_cache(maxsize=1024)
def _on(numbers: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """``numbers`` as a tensor, made once: a transfer may wait for the device."""
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=torch.float64).to(dtype).to(device)


def _mirrored(i: int, count: int) -> int:
    """The index in 0..count-1 that ``i`` falls on if the axis is mirrored at its end pixels."""
    if count == 1:
        return 0
    i %= 2 * (count - 1)
    return min(i, 2 * (count - 1) - i)

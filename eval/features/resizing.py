"""Rules that resize images to a feature network's size. Features of different rules must not be
compared.

    rule              resampling                                               used by
    clean             Pillow's bicubic on each channel in float, clipped to    clean-fid
                      0..255, not rounded (Parmar et al. 2021, 2104.11222)
    tf                bilinear at ``i h / H``, no half-pixel shift and no      TensorFlow 1's FID,
                      antialiasing                                             torch-fidelity, EDM
    torch             bilinear at pixel centres, not antialiased               pytorch-fid
    torch-antialias   bilinear at pixel centres, antialiased                   torchmetrics
    torch-bicubic     bicubic (a = -0.75) at pixel centres, not antialiased    CMMD in PyTorch
    pil               Pillow's bicubic on grey levels, rounded to grey levels  FD-DINOv2
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from ...checks import unknown
from ..errors import ScoreError

Size = tuple[int, int]


def _clean(image: Tensor, size: Size) -> Tensor:
    return _pillow(image.to(torch.float32), size).clamp(0.0, 255.0)


def _pil(image: Tensor, size: Size) -> Tensor:
    if image.dtype != torch.uint8:
        raise ScoreError(
            f"the rule 'pil' rounds to grey levels: it takes uint8 images, got {image.dtype}"
        )
    return _pillow(image, size).to(torch.float32)


def _pillow(image: Tensor, size: Size) -> Tensor:
    """Resize each channel by itself, as Pillow does with RGB; its bicubic is antialiased, with
    a = -0.5."""
    planes = image.cpu().numpy().reshape(-1, *image.shape[2:])
    shrunk = [
        np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BICUBIC))
        for plane in planes
    ]
    return torch.from_numpy(np.stack(shrunk)).reshape(*image.shape[:2], *size)


def _tf(image: Tensor, size: Size) -> Tensor:
    x = image.to(torch.float32)
    for dim, out in ((3, size[1]), (2, size[0])):
        last = x.shape[dim] - 1
        place = torch.arange(out, dtype=torch.float32, device=x.device) * torch.tensor(
            x.shape[dim] / out, dtype=torch.float32
        )
        low = place.long().clamp(max=last)
        a, b = x.index_select(dim, low), x.index_select(dim, (low + 1).clamp(max=last))
        weight = (place - low).view([-1 if d == dim else 1 for d in range(4)])
        x = a + (b - a) * weight
    return x


def _torch(mode: str, antialias: bool) -> Callable[[Tensor, Size], Tensor]:
    return lambda image, size: interpolate(
        image.to(torch.float32), size, mode=mode, align_corners=False, antialias=antialias
    )


RESIZERS: dict[str, Callable[[Tensor, Size], Tensor]] = {
    "clean": _clean,
    "tf": _tf,
    "torch": _torch("bilinear", False),
    "torch-antialias": _torch("bilinear", True),
    "torch-bicubic": _torch("bicubic", False),
    "pil": _pil,
}


def check_rule(rule: str, others: tuple[str, ...] = ()) -> str:
    """``rule``, if it is a resize rule or one of ``others``. ScoreError otherwise."""
    if rule not in RESIZERS and rule not in others:
        raise ScoreError(unknown("resize rule", rule, (*RESIZERS, *others)))
    return rule


def resized(image: Tensor, size: Size, rule: str) -> Tensor:
    """Images (n, c, h, w) in 0..255 at ``size`` (height, width) by ``rule``, float32 in 0..255
    (bicubic rules of torch may overshoot).

    Raises ScoreError for an unknown rule, a size below 1, and images of another form.
    """
    make = RESIZERS[check_rule(rule)]
    if image.ndim != 4 or min(image.shape[1:]) < 1 or min(size) < 1:
        raise ScoreError(
            f"images {tuple(image.shape)} to {size}: must be (n, c, h, w) and sizes >= 1"
        )
    if not len(image):
        return torch.empty(0, image.shape[1], *size)
    return make(image, size)


def network_input(image: Tensor, channels: int, size: Size, rule: str) -> Tensor:
    """``resized`` images with ``channels`` channels; grey images are repeated. ScoreError for any
    other number of channels."""
    if image.ndim == 4 and image.shape[1] not in (1, channels):
        raise ScoreError(f"images of {image.shape[1]} channels: must have {channels}, or 1")
    made = resized(image, size, rule)
    return made.expand(-1, channels, -1, -1)

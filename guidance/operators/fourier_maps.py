"""Orthonormal real maps of images by the fast Fourier transform."""

from __future__ import annotations

import torch
from torch import Tensor

AXES = (-2, -1)


def hartley(x: Tensor) -> Tensor:
    """The Hartley transform of the last two axes, ``Re F x - Im F x`` of the unitary F: real,
    orthonormal and its own inverse. Its basis vectors are sums of a cosine and a sine."""
    found = torch.fft.fft2(x, dim=AXES, norm="ortho")
    made: Tensor = found.real - found.imag
    return made


def filtered(x: Tensor, transfer: Tensor) -> Tensor:
    """``F^-1 (transfer F x)`` of real x, for the transfer function (H, W) of a real filter."""
    found: Tensor = torch.fft.ifft2(transfer * torch.fft.fft2(x, dim=AXES), dim=AXES).real
    return found


def centred_fft(z: Tensor) -> Tensor:
    """The unitary Fourier transform F of the last two axes, with the frequency 0 and the origin of
    the image at (H // 2, W // 2); complex."""
    inner = torch.fft.fft2(torch.fft.ifftshift(z, AXES), dim=AXES, norm="ortho")
    found: Tensor = torch.fft.fftshift(inner, AXES)
    return found


def centred_ifft(k: Tensor) -> Tensor:
    """The inverse of ``centred_fft``."""
    inner = torch.fft.ifft2(torch.fft.ifftshift(k, AXES), dim=AXES, norm="ortho")
    found: Tensor = torch.fft.fftshift(inner, AXES)
    return found


def centred_hartley(x: Tensor) -> Tensor:
    """``hartley`` with the centres of ``centred_fft``; its own inverse."""
    found: Tensor = torch.fft.fftshift(hartley(torch.fft.ifftshift(x, AXES)), AXES)
    return found


def opposite(values: Tensor) -> Tensor:
    """``values`` (H, W) at the opposite of each frequency, in the order of ``centred_fft``."""
    for axis in AXES:
        n = values.shape[axis]
        order = (2 * (n // 2) - torch.arange(n, device=values.device)) % n
        values = values.index_select(axis, order)
    return values

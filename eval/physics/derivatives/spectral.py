"""Derivatives of periodic fields by the Fourier transform.

A field of n points with spacing h has the wave numbers ``k_j = 2 pi j / (n h)``. The derivative of
order m multiplies by ``(i k)^m``; the Nyquist mode, whose sign is not determined, is left out where
m is odd.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def wave_numbers(n: int, h: float, *, odd: bool = False, like: Tensor | None = None) -> Tensor:
    """``k_j`` in the order of ``torch.fft.fft``, (n,); with ``odd`` the Nyquist mode is 0. On the
    device of ``like``, in its real dtype; float64 by default."""
    device = None if like is None else like.device
    dtype = torch.float64 if like is None else like.real.dtype
    k: Tensor = 2.0 * math.pi * torch.fft.fftfreq(n, h, dtype=dtype, device=device)
    if odd and n % 2 == 0:
        k[n // 2] = 0.0
    return k


def derivative(value: Tensor, h: float, dim: int, order: int = 1) -> Tensor:
    """``d^order value / dx^order`` along ``dim``, whose points are ``h`` apart; real where
    ``value`` is."""
    n = value.shape[dim]
    k = wave_numbers(n, h, odd=order % 2 == 1, like=value)
    shape = [1] * value.ndim
    shape[dim] = n
    factor = ((1j * k) ** order).reshape(shape)
    found: Tensor = torch.fft.ifft(factor * torch.fft.fft(value, dim=dim), dim=dim)
    real: Tensor = found.real
    return found if value.is_complex() else real


def laplacian(value: Tensor, spacing: dict[str, float], dims: dict[str, int]) -> Tensor:
    """Sum of the second derivatives along ``dims`` (axis -> dimension)."""
    parts = [derivative(value, spacing[axis], dim, 2) for axis, dim in dims.items()]
    return torch.stack(parts).sum(0)


def resolved(n: int, like: Tensor) -> Tensor:
    """1 for the modes of index below n/3, else 0, in the order of ``torch.fft.fft``, (n,): those
    among which products of two fields do not fold back (the 2/3 rule). The mode of index n/3 is not
    one of them: its square folds back onto itself."""
    dtype = like.real.dtype
    index: Tensor = torch.fft.fftfreq(n, 1.0 / n, device=like.device, dtype=dtype).abs()
    return (3.0 * index.round() < n).to(dtype)


def dealiased(spectrum: Tensor, dims: tuple[int, ...]) -> Tensor:
    """``spectrum`` (of ``torch.fft.fft`` along ``dims``) without the modes of index n/3 and above
    in any direction (see ``resolved``)."""
    for dim in dims:
        n = spectrum.shape[dim]
        shape = [1] * spectrum.ndim
        shape[dim] = n
        spectrum = spectrum * resolved(n, spectrum).reshape(shape)
    return spectrum

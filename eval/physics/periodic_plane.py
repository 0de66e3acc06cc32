"""Fields on a torus in time, (B, T, X, Y): reading, and their Laplacian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .arguments import Inputs, check_finite, check_periodic, check_real, read
from .derivatives.spectral import wave_numbers
from .equation import Fields, Params, Spacing
from .periodic_line import no_walls as no_walls

AXES = ("t", "x", "y")


def read_history(
    fields: Fields,
    spacing: Spacing,
    params: Params,
    *,
    needed: tuple[str, ...],
    allowed: Mapping[str, Any],
    optional: tuple[str, ...] = (),
) -> Inputs:
    """Checked real fields (B, T, X, Y), periodic in x and y. Raises ArgumentError."""
    found = read(
        fields, spacing, params, needed=needed, optional=optional, axes=AXES, allowed=allowed
    )
    check_real(found.fields)
    check_periodic(found.fields, {"x": 2, "y": 3})
    return found


def read_start(
    fields: Fields,
    spacing: Spacing,
    params: Params,
    *,
    needed: tuple[str, ...],
    allowed: Mapping[str, Any],
) -> Inputs:
    """Checked real fields at the first time, (B, X, Y), periodic, with the spacings of all axes.
    Raises ArgumentError, also where they are not finite."""
    found = read(
        fields, spacing, params, needed=needed, axes=("x", "y"), allowed=allowed, spaced=AXES
    )
    check_real(found.fields)
    check_finite(found.fields)
    check_periodic(found.fields, {"x": 1, "y": 2})
    return found


def square_wave_numbers(value: Tensor, spacing: Mapping[str, float]) -> Tensor:
    """``k_x^2 + k_y^2`` of ``torch.fft.rfft2`` of a field (..., X, Y), (X, Y/2 + 1)."""
    n, m = value.shape[-2:]
    kx = wave_numbers(n, spacing["x"], like=value)
    ky = wave_numbers(m, spacing["y"], like=value)[: m // 2 + 1]
    return kx[:, None] ** 2 + ky**2


def inverse(spectrum: Tensor, shape: torch.Size) -> Tensor:
    """The real field of ``shape`` (..., X, Y) with the spectrum ``torch.fft.rfft2``."""
    found: Tensor = torch.fft.irfft2(spectrum, s=tuple(shape[-2:]))
    return found


def laplacian(value: Tensor, spacing: Mapping[str, float]) -> Tensor:
    """The Laplacian of a real field (..., X, Y)."""
    spectrum = -square_wave_numbers(value, spacing) * torch.fft.rfft2(value)
    return inverse(spectrum, value.shape)


def mean(value: Tensor) -> Tensor:
    """The mean over the torus of (..., X, Y)."""
    found: Tensor = value.mean((-2, -1))
    return found

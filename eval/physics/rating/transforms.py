"""Fourier transforms of fields on periodic axes and between walls.

Between walls a field of n points is continued beyond the wall, evenly (a cosine transform of type
I, for fields of any value at the walls) or oddly (a sine transform of type I, for fields that are 0
there), to a periodic one of ``2 (n - 1)`` points, so that ``k_j = pi j / L``.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ....checks import ArgumentError, between, plain, unknown
from ..derivatives.spectral import wave_numbers
from ..equation import Spacing

#: continuation beyond walls; "interior": odd, of values on the interior points only
Parity: TypeAlias = Literal["even", "odd", "interior"]
#: axes in the order in which fields have them
ORDER = ("t", "x", "y", "z")


def axes(spacing: Spacing) -> tuple[str, ...]:
    """The axes of ``spacing`` in the order of a field's dimensions. Raises ArgumentError."""
    for axis in spacing:
        if axis not in ORDER:
            raise ArgumentError(unknown("axis", axis, ORDER))
    return tuple(axis for axis in ORDER if axis in spacing)


def space(spacing: Spacing) -> tuple[str, ...]:
    """The axes without the time. Raises ArgumentError if there is none."""
    found = tuple(axis for axis in axes(spacing) if axis != "t")
    if not found:
        raise ArgumentError(f"spacing {dict(spacing)} has no axis of space")
    return found


def fourier(
    field: Tensor, spacing: Spacing, walls: Collection[str], parity: Parity
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Power ``|f_k|^2`` (B, [T,] modes), whose sum over the modes is the mean square of the field
    (trapezoidal between walls; of a real field a mode and its conjugate are one), the wave numbers
    ``|k|`` of the modes, and axis -> the distance between two wave numbers.

    Raises ArgumentError where ``field`` does not have the axes of ``spacing``.
    """
    names, inner = axes(spacing), space(spacing)
    if field.ndim != len(names) + 1:
        raise ArgumentError(
            f"a field of shape {tuple(field.shape)} must be (B, {', '.join(names)}), the axes of "
            "spacing"
        )
    for axis in walls:
        if axis not in inner:
            raise ArgumentError(unknown("wall", axis, inner))
    squares: list[Tensor] = []
    distance: dict[str, float] = {}
    for axis in inner:
        dim = names.index(axis) + 1
        h = float(between(f"spacing[{axis!r}]", plain(spacing[axis]), 0.0))
        if axis in walls:
            field = continued(field, dim, parity)
        n = field.shape[dim]
        shape = [n if d == inner.index(axis) else 1 for d in range(len(inner))]
        squares.append(wave_numbers(n, h, like=field).square().reshape(shape))
        distance[axis] = 2.0 * math.pi / (n * h)
    power = _power(field, len(inner))
    squares[-1] = squares[-1][..., : power.shape[-1]]
    total = squares[0]
    for square in squares[1:]:
        total = total + square
    return power, total.sqrt(), distance


def _power(field: Tensor, axes: int) -> Tensor:
    """``|f_k|^2`` along the last ``axes`` dimensions; of a real field the modes ``k >= 0`` of the
    last one, which count for ``-k`` too."""
    dims = tuple(range(field.ndim - axes, field.ndim))
    transform = torch.fft.fftn if field.is_complex() else torch.fft.rfftn
    modes = torch.view_as_real(transform(field, dim=dims, norm="forward"))
    power = modes.square_().sum(-1)
    if not field.is_complex():
        n = field.shape[-1]
        power[..., 1 : (n + 1) // 2] *= 2.0
    return power


def continued(field: Tensor, dim: int, parity: Parity) -> Tensor:
    """One period of the field continued beyond the walls at the ends of ``dim``."""
    if parity == "interior":
        zero = torch.zeros_like(field.narrow(dim, 0, 1))
        return torch.cat([zero, field, zero, -field.flip(dim)], dim)
    inner = field.narrow(dim, 1, field.shape[dim] - 2)
    if parity == "odd":
        return continued(inner, dim, "interior")
    return torch.cat([field, inner.flip(dim)], dim)

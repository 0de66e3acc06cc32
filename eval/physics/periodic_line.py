"""Fields on a periodic line in time, (B, T, X): reading."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .arguments import Inputs, check_periodic, check_real, read
from .derivatives.spectral import wave_numbers
from .equation import Fields, Params, Spacing

AXES = ("t", "x")


def read_history(
    fields: Fields,
    spacing: Spacing,
    params: Params,
    *,
    needed: tuple[str, ...],
    optional: tuple[str, ...] = (),
    allowed: Mapping[str, Any],
    complex_values: bool = False,
) -> Inputs:
    """Checked fields (B, T, X), periodic in x. Complex fields are refused, or all made complex
    where ``complex_values``. Raises ArgumentError."""
    found = read(
        fields, spacing, params, needed=needed, optional=optional, axes=AXES, allowed=allowed
    )
    check_periodic(found.fields, {"x": 2})
    return _of_kind(found, complex_values)


def read_start(
    fields: Fields,
    spacing: Spacing,
    params: Params,
    *,
    needed: tuple[str, ...],
    allowed: Mapping[str, Any],
    complex_values: bool = False,
) -> Inputs:
    """Checked fields at the first time, (B, X), periodic in x, with the spacings of both axes.
    Parameters on the grid are (B, X), or (B, 1, X) as for a history. Raises ArgumentError."""
    if isinstance(params, Mapping):
        params = {name: _without_time(value) for name, value in params.items()}
    found = read(fields, spacing, params, needed=needed, axes=("x",), allowed=allowed, spaced=AXES)
    check_periodic(found.fields, {"x": 1})
    return _of_kind(found, complex_values)


def _without_time(value: Any) -> Any:
    constant = isinstance(value, Tensor) and value.ndim == 3 and value.shape[1] == 1
    return value[:, 0] if constant else value


def _of_kind(given: Inputs, complex_values: bool) -> Inputs:
    if not complex_values:
        check_real(given.fields)
        return given
    found = {
        name: value.to(torch.promote_types(value.dtype, torch.complex64))
        for name, value in given.fields.items()
    }
    return dataclasses.replace(given, fields=found)


def no_walls(given: Inputs, name: str) -> Tensor:
    """The error of the boundary condition on a line or torus, which has no walls: 0, (B,)."""
    value = given.fields[name]
    return value.real.new_zeros(value.shape[0])


def half_wave_numbers(n: int, h: float, like: Tensor, *, odd: bool = False) -> Tensor:
    """Wave numbers of ``torch.fft.rfft``, (n // 2 + 1,), none negative; with ``odd`` that of the
    Nyquist mode is 0."""
    return wave_numbers(n, h, odd=odd, like=like)[: n // 2 + 1].abs()


def refinement(size: int, least: int) -> int:
    """The least power of 2 by which a grid of ``size`` points is refined to ``least`` or more."""
    return 1 << max(0, math.ceil(math.log2(least / size)))

"""Physical fields in npz files.

An array for each field under its name, (B, [T,] space), in the dtype in which it is given; complex
fields as ``NAME.real`` and ``NAME.imag``. ``spacing.AXIS`` and ``param.NAME`` hold the spacings and
parameters. ``seed``, ``label`` and ``provenance`` may be there too.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...checks import ArgumentError, described, shown
from ...files import write
from ...files.arrays import npz_names, read_npz
from .equation import Problem

SPACING, PARAM, REAL, IMAG = "spacing.", "param.", ".real", ".imag"
#: arrays that are no fields
BESIDE = ("seed", "label", "provenance")


def save_fields(path: str | Path, problem: Problem) -> None:
    """Write fields, spacing and parameters to the npz file ``path``. Raises ArgumentError for
    parameters that are neither numbers, texts nor tensors."""
    fields, spacing, params = problem
    arrays: dict[str, Any] = {}
    for name, value in fields.items():
        array = value.detach().cpu()
        both = {name + REAL: array.real, name + IMAG: array.imag} if array.is_complex() else None
        arrays |= {name: array} if both is None else both
    arrays |= {SPACING + axis: float(h) for axis, h in spacing.items()}
    for name, value in params.items():
        if not isinstance(value, (bool, int, float, str, Tensor, np.ndarray)):
            raise ArgumentError(f"parameter {name!r}={shown(value)} cannot be stored")
        arrays[PARAM + name] = value.detach().cpu() if isinstance(value, Tensor) else value
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **{name: np.asarray(v) for name, v in arrays.items()})
    write(path, out.getvalue())


def load_fields(path: str | Path) -> Problem:
    """The fields of an npz file in their stored dtype, with the spacing and the parameters that it
    holds. Raises ArgumentError, OSError."""
    names = [name for name in npz_names(path) if name not in BESIDE]
    arrays = read_npz(path, names)
    spacing = {k.removeprefix(SPACING): v for k, v in arrays.items() if k.startswith(SPACING)}
    params = {k.removeprefix(PARAM): v for k, v in arrays.items() if k.startswith(PARAM)}
    rest = {k: v for k, v in arrays.items() if not k.startswith((SPACING, PARAM))}
    fields = {}
    for name, value in rest.items():
        if value.dtype.kind != "f" or value.ndim < 2:
            raise ArgumentError(
                f"{str(path)!r}: {name!r} must be a floating point field (B, points), got "
                f"{described(value)}"
            )
        fields[name] = torch.from_numpy(value)
    for axis, h in spacing.items():
        if h.ndim or h.dtype.kind not in "iuf":
            raise ArgumentError(f"{str(path)!r}: spacing of {axis!r} must be a number, got {h}")
    return Problem(
        joined(fields),
        {axis: float(h) for axis, h in spacing.items()},
        {name: _param(value) for name, value in params.items()},
    )


def joined(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fields with each pair ``NAME.real``, ``NAME.imag`` as the complex field ``NAME``. Raises
    ArgumentError for one without the other."""
    fields: dict[str, Tensor] = {}
    for name, value in parts.items():
        stem, dot, part = name.rpartition(".")
        if not dot:
            fields[name] = value
        elif part not in ("real", "imag") or not {stem + REAL, stem + IMAG} <= set(parts):
            raise ArgumentError(
                f"field {name!r}: a complex field is stored as {stem + REAL!r} and {stem + IMAG!r}"
            )
        else:
            fields[stem] = torch.complex(parts[stem + REAL], parts[stem + IMAG])
    return fields


def _param(value: np.ndarray) -> Any:
    if value.ndim == 0:
        return value.item()
    return torch.from_numpy(value) if value.dtype.kind in "biuf" else value

"""Reads physical fields for training from an npz file, as one float32 tensor of channels in memory.

The file holds one array (n, h, h) for each field of the recipe, under the field's name and in
physical units, and optionally ``provenance``, a text that says how they were made; it is copied to
the model's ``config.json``. Channels are made by the recipe's affine maps, ``x = scale v + shift``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..files.arrays import ArrayError, npz_names, read_npz
from ..models.field_maps import FieldMaps
from .data import DataError

PROVENANCE = "provenance"


@dataclass(frozen=True)
class Fields:
    """Training data: ``image`` float32 (n, c, h, h), the channels; ``label`` int64 (n,), zeros;
    ``provenance``, the text of the file."""

    image: Tensor
    label: Tensor
    provenance: str = ""
    classes: int = 0
    left_out: str = ""

    def __len__(self) -> int:
        """Number of samples."""
        return int(self.image.shape[0])


def load_fields(path: str | Path, maps: FieldMaps) -> Fields:
    """Read the fields ``maps.names`` from the npz file ``path``. Raises DataError."""
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"no training data at {str(path)!r}: give an npz file with the fields "
            f"{list(maps.names)}, each (n, h, h)"
        )
    try:
        found = npz_names(path)
        arrays = read_npz(path, (*maps.names, PROVENANCE))
    except (ArrayError, OSError) as error:
        raise DataError(f"{str(path)!r}: {error}") from error
    missing = [name for name in maps.names if name not in arrays]
    if missing:
        raise DataError(f"{str(path)!r} holds {sorted(found)}; {missing} must be there too")
    text = arrays.pop(PROVENANCE, None)
    _check(arrays, str(path))
    values = {name: torch.from_numpy(array) for name, array in arrays.items()}
    image = torch.empty(len(arrays[maps.names[0]]), len(values), *arrays[maps.names[0]].shape[1:])
    for channel, field in enumerate(maps.maps):
        image[:, channel] = (values[field.name].double() * field.scale + field.shift).float()
    label = torch.zeros(len(image), dtype=torch.long)
    return Fields(image, label, "" if text is None else str(text))


def _check(arrays: dict[str, np.ndarray], where: str) -> None:
    """Raise DataError unless all arrays are finite floating point fields of one shape."""
    shapes = {array.shape for array in arrays.values()}
    for name, array in arrays.items():
        good = array.ndim == 3 and array.shape[1] == array.shape[2] and 0 not in array.shape
        if not good or array.dtype.kind != "f":
            raise DataError(
                f"{where!r}: {name!r} is {array.dtype} {array.shape}; must be floating point "
                "(n, h, h), at least one"
            )
        if not np.isfinite(array).all():
            raise DataError(f"{where!r}: {name!r} has values that are NaN or infinite")
    if len(shapes) > 1:
        raise DataError(f"{where!r}: fields of different shapes {sorted(shapes)}; must be one")

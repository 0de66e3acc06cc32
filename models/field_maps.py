"""Physical fields and the channels of a network that models them: one affine map a channel.

A network is trained on channels of about unit range, ``x_c = scale_c v_c + shift_c`` for the field
``v_c`` in physical units. The maps are part of the model's ``config.json`` (``"fields"``), so that
samples come back in physical units: ``models.fields_of("darcy").physical(x)["u"]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checks import number, tensor
from .errors import ModelError
from .weights import CONFIG, locate, read_json


@dataclass(frozen=True)
class FieldMap:
    """Channel ``x = scale * value + shift`` of the field ``name``; ``scale`` is not 0."""

    name: str
    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ModelError(f"name={self.name!r} of a field must be a text, not empty")
        if number("scale", self.scale) == 0:
            raise ModelError(f"scale=0 of the field {self.name!r}: the map has no inverse")
        number("shift", self.shift)


@dataclass(frozen=True)
class FieldMaps:
    """The maps of all channels, in their order."""

    maps: tuple[FieldMap, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or not self.names:
            raise ModelError(f"fields {self.names}: must be at least one, each name once")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields, in the order of the channels."""
        return tuple(field.name for field in self.maps)

    def channels(self, fields: Mapping[str, Tensor]) -> Tensor:
        """Return the channels (B, C, H, W) of ``fields``, each (B, H, W). Raises ModelError for
        missing or further fields."""
        if set(fields) != set(self.names):
            raise ModelError(f"fields {sorted(fields)}: must be {list(self.names)}")
        return torch.stack([m.scale * fields[m.name] + m.shift for m in self.maps], dim=1)

    def physical(self, x: Tensor) -> dict[str, Tensor]:
        """Return the fields in physical units, each (B, H, W), of samples ``x`` (B, C, H, W).
        Raises ModelError for another number of channels."""
        tensor("x", x, axes=2, error=ModelError)
        if x.shape[1] != len(self.maps):
            raise ModelError(
                f"samples of shape {tuple(x.shape)}: axis 1 must have the {len(self.maps)} "
                f"channels {list(self.names)}"
            )
        return {m.name: (x[:, c] - m.shift) / m.scale for c, m in enumerate(self.maps)}

    def to_list(self) -> list[dict[str, Any]]:
        """Return plain values for JSON."""
        return [{"name": m.name, "scale": m.scale, "shift": m.shift} for m in self.maps]

    @classmethod
    def from_list(cls, values: Sequence[Mapping[str, Any]]) -> FieldMaps:
        """Inverse of :meth:`to_list`. Raises ModelError."""
        keys = {"name", "scale", "shift"}
        if not isinstance(values, list) or not all(
            isinstance(value, dict) and set(value) == keys for value in values
        ):
            raise ModelError(f"fields must be a list of objects with the keys {sorted(keys)}")
        return cls(tuple(FieldMap(**value) for value in values))


def fields_of(name_or_folder: str | Path) -> FieldMaps:
    """Return the field maps of a bundled name or of a folder written by ``fewstep.train``. Raises
    ModelError if the model is not one of physical fields."""
    config = read_json(locate(name_or_folder) / CONFIG)
    if "fields" not in config:
        raise ModelError(
            f"{str(name_or_folder)!r} models no physical fields: no 'fields' in {CONFIG}"
        )
    return FieldMaps.from_list(config["fields"])

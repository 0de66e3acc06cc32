"""The data that are inverted: images of a folder or an npz file, or the samples in a folder of
``generate`` that are no pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import ArgumentError
from ..files import dumps, read_json, sha256
from ..files.arrays import npz_names, read_npz
from .blocks import Block

if TYPE_CHECKING:
    from ..models.base import BaseDenoiser


class DataSource:
    """Data of one source.

    Attributes:
        count, shape: number of samples, and the shape of one.
        labels: the classes in a folder of ``generate``; None if there are none.
    """

    def __init__(self, path: Path) -> None:
        from ..eval.features.image_sources import open_source

        self.path = path
        manifest = path / "manifest.json"
        rows = read_json(manifest).get("samples", []) if manifest.is_file() else []
        found = [row.get("label") for row in rows]
        self.labels = found if found and None not in found else None
        self.values: Any = None
        files = list(dict.fromkeys(row["file"] for row in rows))
        if files and files[0].endswith(".npz") and "x" in npz_names(path / files[0]):
            self.values = np.concatenate([read_npz(path / name, ("x",))["x"] for name in files])
            self.count, self.shape = len(self.values), tuple(self.values.shape[1:])
            return
        self.source = open_source(path)
        self.count, self.shape = self.source.count, tuple(self.source.shape)

    def check(self, denoiser: BaseDenoiser) -> None:
        """Raise ArgumentError for images that the model does not take."""
        if denoiser.shape is not None and tuple(denoiser.shape) != self.shape:
            raise ArgumentError(
                f"{str(self.path)!r} holds samples of shape {self.shape}, the model takes "
                f"{tuple(denoiser.shape)}"
            )

    def read(self, block: Block) -> Any:
        """The data of a block, a float array (B, *shape)."""
        start, stop = block.seeds[0], block.seeds[-1] + 1
        if self.values is not None:
            return self.values[start:stop]
        batch = self.source.read(start, stop)
        if batch.bad:
            raise ArgumentError(f"{batch.bad[0].name!r} cannot be read: {batch.bad[0].why}")
        return batch.image.numpy().astype(np.float32) / 127.5 - 1.0

    def names(self) -> Iterator[str]:
        """A name of every image."""
        for k in range(self.count):
            yield f"{k:06d}"

    def identity(self) -> str:
        """A hash of what decides the data."""
        if self.values is not None:
            return sha256(np.ascontiguousarray(self.values).tobytes())
        return sha256(dumps(self.source.facts()))

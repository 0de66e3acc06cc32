"""Sources of images: a folder of pictures or npz files, one npz file, or a folder of ``fewstep
generate``, read in any order.

All images must have one size and one number of channels; they are returned as uint8 (n, c, h, w).
``image_files`` describes the formats; hidden files are skipped (``files.listing``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...checks import ArgumentError
from ...files import read_json, sha256
from ...files.arrays import npy_header, read_npy
from ...files.listing import LeftOut, list_files
from ...files.pictures import read_picture
from ..errors import ScoreError
from .grey_levels import image_batch
from .image_files import (
    DAMAGE,
    PICTURES,
    Part,
    channels_first,
    checked_bytes,
    decoded,
    image_array,
    packed_arrays,
    part_of,
)
from .value_range import ROUNDING, Range, Values, check_range


@dataclass(frozen=True)
class Unreadable:
    """An image, or a whole npz file, that cannot be read: its index in the source, its name, and
    the reason."""

    index: int
    name: str
    why: str


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of images.

    Attributes:
        image: uint8 (n, c, h, w).
        index: their indices in the source.
        bad: images that could not be read.
        values: range of the images that were floating point.
    """

    image: Tensor
    index: tuple[int, ...]
    bad: tuple[Unreadable, ...] = ()
    values: Values = field(default_factory=Values)


@dataclass(eq=False)
class ImageSource:
    """Images of a folder or a file, indexed 0..count-1: files sorted by name (or in the order of
    the manifest), rows within a file.

    Attributes:
        name: as given by the user.
        parts: the files.
        manifest: manifest of ``fewstep generate``; empty for other folders.
        value_range: range of floating point images; None: [-1, 1].
        left_out: files of the folder that were skipped.
        shape: (c, h, w) of the first readable image.
    """

    name: str
    parts: tuple[Part, ...]
    manifest: dict[str, Any] = field(default_factory=dict)
    value_range: Range = None
    left_out: LeftOut = field(default_factory=LeftOut)
    _kept: tuple[Path, Any] | None = None

    def __post_init__(self) -> None:
        self.starts = np.cumsum([0, *(part.count for part in self.parts)])
        first = next(
            (row for row in self._rows(0, self.count) if not isinstance(row[1], Unreadable)), None
        )
        if first is None:
            bad = next(row[1] for row in self._rows(0, self.count))
            raise ScoreError(
                f"{self.name!r} holds no image that can be read; the first, {bad.name!r}: {bad.why}"
            )
        self.first, self.shape = self._label(first[0]), tuple(first[1][0].shape)

    @property
    def count(self) -> int:
        """Number of images, damaged ones included."""
        return int(self.starts[-1])

    def facts(self) -> list[list[Any]]:
        """Name, number of images, size and modification time of every file, from which a resumed
        run recognises the source."""
        found = []
        for part in self.parts:
            stat = part.path.stat() if part.path.exists() else None
            found.append(
                [
                    str(part.path.resolve()),
                    part.count,
                    stat and stat.st_size,
                    stat and stat.st_mtime_ns,
                ]
            )
        return found

    def read(self, start: int, stop: int) -> Batch:
        """The images ``start`` to ``stop - 1``. ScoreError where the shape of one differs from the
        first image's, and for indices out of range."""
        if not 0 <= start <= stop <= self.count:
            raise ScoreError(
                f"images {start} to {stop} of {self.name!r}: allowed are 0 to {self.count}"
            )
        good, index, bad, values = [], [], [], Values()
        for k, found in self._rows(start, stop):
            if isinstance(found, Unreadable):
                bad.append(found)
                continue
            row, own = found
            if tuple(row.shape) != self.shape:
                raise ScoreError(
                    f"{self._label(k)!r} is {tuple(row.shape)}, {self.first!r} is "
                    f"{self.shape} (channels, height, width): "
                    "all images must have one size and one number of channels"
                )
            good.append(row)
            index.append(k)
            values += own
        pixels = np.stack(good) if good else np.empty((0, *self.shape), dtype=np.uint8)
        return Batch(torch.from_numpy(pixels), tuple(index), tuple(bad), values)

    def _rows(self, start: int, stop: int) -> Iterator[tuple[int, Any]]:
        """Index of each image with its uint8 (c, h, w) array and ``Values``, or with
        ``Unreadable``."""
        for k in range(start, stop):
            which = int(np.searchsorted(self.starts, k, side="right")) - 1
            part = self.parts[which]
            try:
                if part.why is not None:
                    raise ArgumentError(part.why)
                yield k, self._row(part, k - int(self.starts[which]))
            except DAMAGE as error:
                yield k, Unreadable(k, self._label(k), str(error).strip() or type(error).__name__)

    def _row(self, part: Part, row: int) -> tuple[Any, Values]:
        if not part.packed:
            return decoded(
                checked_bytes(part), self.value_range, part.path.suffix.lower() == ".npy"
            )
        if self._kept is None or self._kept[0] != part.path:
            self._kept = part.path, packed_arrays(part)
        arrays = self._kept[1]
        if isinstance(arrays, str):
            raise ArgumentError(arrays)
        if "image" in arrays:
            return channels_first(arrays["image"][row]), Values()
        a, b = (int(edge) for edge in arrays["offset"][row : row + 2])
        return read_picture(arrays["jpeg"][a:b].tobytes()), Values()

    def _label(self, k: int) -> str:
        which = int(np.searchsorted(self.starts, k, side="right")) - 1
        part = self.parts[which]
        inside = f"[{k - int(self.starts[which])}]" if part.packed and part.why is None else ""
        return f"{part.path}{inside}"


def open_source(path: str | Path, value_range: Range = None) -> ImageSource:
    """Open the images under ``path``: a folder (with sub-folders and links), one npz file, or a
    folder of ``fewstep generate``, whose manifest is followed.

    ``value_range``: values of black and white in floating point npy files; None: [-1, 1]. Raises
    ScoreError where there are no images, where the values of all npy files together are not
    consistent with the range, and for the folder of an unfinished run.
    """
    path, limits, left = Path(path), check_range(value_range), LeftOut()
    if path.is_file() and path.suffix.lower() == ".npz":
        parts = [part_of(path)]
        _judge(parts, limits, str(path))
        return ImageSource(str(path), tuple(parts))
    if not path.is_dir():
        raise ScoreError(
            f"no images at {str(path)!r}: give a folder of pictures ({', '.join(PICTURES)}) "
            "or of npz files, or an npz file"
        )
    manifest = _manifest(path)
    if manifest:
        files = {row["file"]: row["sha256"] for row in manifest["samples"]}
        parts = [part_of(path / name, digest) for name, digest in files.items()]
    else:
        try:
            found, left = list_files(path, (*PICTURES, ".npz"))
        except ArgumentError as error:
            raise ScoreError(str(error)) from error
        if len({file.suffix.lower() == ".npz" for file in found}) > 1:
            raise ScoreError(
                f"{str(path)!r} mixes pictures and npz files; give a folder with one or the other"
            )
        parts = [part_of(file) for file in found]
    if not parts:
        said = left.text()
        raise ScoreError(
            f"no images ({', '.join(PICTURES)}, .npz) under {str(path)!r}"
            + (f"; {said}" if said else "")
        )
    _judge(parts, limits, str(path))
    return ImageSource(str(path), tuple(parts), manifest, limits, left)


def _judge(parts: Sequence[Part], limits: Range, name: str) -> None:
    """Raise ScoreError where the values of all npy files together are not consistent with
    ``limits``. Stops at the first value below 0, so most sources need one file."""
    seen, floating = Values(), False
    for part in parts:
        if (
            part.path.suffix.lower() != ".npy"
            or seen.least < -ROUNDING
            or (floating and limits is not None)
        ):
            continue
        try:
            if npy_header(part.path).dtype.kind == "f":
                floating = True
                seen += Values.of(
                    image_batch(image_array(read_npy(checked_bytes(part)))[None]), limits
                )
        except DAMAGE:  # it is named when its turn comes
            continue
    if limits is not None and not floating:
        raise ScoreError(
            f"value_range={limits}: {name!r} holds no floating point npy file; the pixels of "
            "all others are 0..255"
        )
    seen.judge(limits, repr(name), "--value-range=")


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest of ``fewstep generate``; empty for a folder written by another program."""
    file = path / "manifest.json"
    if not file.is_file():
        if (path / "settings.json").is_file() and (path / "samples").is_dir():
            raise ScoreError(
                f"{str(path)!r} holds an unfinished run of `fewstep generate`; run it again "
                "to the end, or score its samples/"
            )
        return {}
    try:
        found = read_json(file)
        if not isinstance(found.get("samples"), list) or not all(
            _sample(row) for row in found["samples"]
        ):
            raise ArgumentError(
                "'samples' must be rows with 'file' (a name below the folder), 'sha256' and "
                "an integer 'label' or none"
            )
    except (OSError, ValueError) as error:
        raise ScoreError(
            f"{str(file)!r} is not a manifest of `fewstep generate`: {error!s}; score the "
            "folder of the pictures"
        ) from error
    return found


def _sample(row: Any) -> bool:
    if (
        not isinstance(row, dict)
        or not isinstance(row.get("file"), str)
        or not isinstance(row.get("sha256"), str)
    ):
        return False
    name, label = PurePosixPath(row["file"]), row.get("label")
    inside = (
        not name.is_absolute()
        and ".." not in name.parts
        and ":" not in row["file"]
        and "\\" not in row["file"]
    )
    return inside and (label is None or isinstance(label, int))


def image_digests(image: Tensor) -> Tensor:
    """SHA-256 of each image's shape and pixels, uint8 (n, 32). It does not depend on the file
    format."""
    head = f"{tuple(image.shape[1:])}".encode()
    rows = [
        np.frombuffer(hashlib.sha256(head + row.tobytes()).digest(), dtype=np.uint8)
        for row in np.ascontiguousarray(image.numpy())
    ]
    return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, 32, dtype=torch.uint8)


def joint_digest(parts: Sequence[Tensor]) -> str:
    """SHA-256 of the digests of all images, in order: the value of ``Provenance.data`` for streamed
    images."""
    return sha256(*(np.ascontiguousarray(part.numpy()) for part in parts))

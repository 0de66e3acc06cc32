"""Images to be scored, as files hold them: a folder of pictures, npz files, or what ``fewstep generate`` wrote; read in any order.

A picture is a png, jpg, webp or bmp file, grey or RGB, or an npy file: uint8 (h, w[, c]), or floating point (c, h, w) in [-1, 1]. An npz
file holds ``image`` uint8 (n, h, w[, c]), or ``jpeg`` (all files one after another) with ``offset`` (n + 1). Nothing is unpickled.
All images must have one size and one number of channels; they come as uint8 (n, c, h, w).
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..checks import ArgumentError
from ..files import sha256
from .errors import ScoreError
from .features import to_uint8

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".npy")
#: of Pillow's modes, those that are grey or RGB without loss
MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}
#: what reading a damaged file raises
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, KeyError, struct.error, zlib.error, zipfile.BadZipFile, Image.DecompressionBombError)


@dataclass(frozen=True)
class Unreadable:
    """An image, or a whole npz file, that cannot be read: its place in the source, its name, and why."""

    index: int
    name: str
    why: str


@dataclass(frozen=True, eq=False)
class Batch:
    """Images ``image`` uint8 (n, c, h, w) with their places ``index`` in the source, and those that could not be read."""

    image: Tensor
    index: tuple[int, ...]
    bad: tuple[Unreadable, ...] = ()


@dataclass(frozen=True)
class Part:
    """One file with ``count`` images; ``digest`` is the SHA-256 that a manifest gives it; ``why`` it cannot be read (it counts as one)."""

    path: Path
    count: int
    digest: str | None = None
    why: str | None = None


@dataclass(eq=False)
class ImageSource:
    """Images of a folder or a file, by their places 0..count-1: files by name (of a manifest: as it lists them), within a file by row.

    Attributes:
        name: as given.
        parts: the files.
        manifest: what ``fewstep generate`` wrote beside them; empty where it did not.
        shape: (c, h, w) of the first image that can be read.
    """

    name: str
    parts: tuple[Part, ...]
    manifest: dict[str, Any] = field(default_factory=dict)
    _kept: tuple[Path, Any] | None = None

    def __post_init__(self) -> None:
        self.starts = np.cumsum([0, *(part.count for part in self.parts)])
        first = next((row for row in self._rows(0, self.count) if isinstance(row[1], np.ndarray)), None)
        if first is None:
            bad = next(row[1] for row in self._rows(0, self.count))
            raise ScoreError(f"{self.name!r} holds no image that can be read; the first, {bad.name!r}: {bad.why}")
        self.first, self.shape = self._label(first[0]), tuple(first[1].shape)

    @property
    def count(self) -> int:
        """How many images there are, damaged ones included."""
        return int(self.starts[-1])

    def facts(self) -> list[list[Any]]:
        """Name, images, size and time of change of every file: what tells that a source is the one of before."""
        found = []
        for part in self.parts:
            stat = part.path.stat() if part.path.exists() else None
            found.append([str(part.path.resolve()), part.count, stat and stat.st_size, stat and stat.st_mtime_ns])
        return found

    def read(self, start: int, stop: int) -> Batch:
        """The images ``start`` to ``stop - 1``. ScoreError where one has another size or number of channels than the first."""
        good, index, bad = [], [], []
        for k, row in self._rows(start, stop):
            if isinstance(row, Unreadable):
                bad.append(row)
                continue
            if tuple(row.shape) != self.shape:
                raise ScoreError(
                    f"{self._label(k)!r} is {tuple(row.shape)}, {self.first!r} is {self.shape} (channels, height, width): "
                    "all images must have one size and one number of channels"
                )
            good.append(row)
            index.append(k)
        pixels = np.stack(good) if good else np.empty((0, *self.shape), dtype=np.uint8)
        return Batch(torch.from_numpy(pixels), tuple(index), tuple(bad))

    def _rows(self, start: int, stop: int) -> Iterator[tuple[int, Any]]:
        """Place and (c, h, w) array, or Unreadable, of each image."""
        for k in range(start, stop):
            which = int(np.searchsorted(self.starts, k, side="right")) - 1
            part = self.parts[which]
            try:
                if part.why is not None:
                    raise ArgumentError(part.why)
                yield k, self._row(part, k - int(self.starts[which]))
            except DAMAGE as error:
                yield k, Unreadable(k, self._label(k), str(error).strip() or type(error).__name__)

    def _row(self, part: Part, row: int) -> Any:
        if part.path.suffix != ".npz":
            return picture(_checked(part))
        if self._kept is None or self._kept[0] != part.path:
            self._kept = part.path, _arrays(io.BytesIO(_checked(part)))
        arrays = self._kept[1]
        if "image" in arrays:
            return _channels_first(arrays["image"][row])
        a, b = (int(edge) for edge in arrays["offset"][row : row + 2])
        return picture(arrays["jpeg"][a:b].tobytes())

    def _label(self, k: int) -> str:
        which = int(np.searchsorted(self.starts, k, side="right")) - 1
        part = self.parts[which]
        inside = f"[{k - int(self.starts[which])}]" if part.path.suffix == ".npz" and part.why is None else ""
        return f"{part.path}{inside}"


def open_source(path: str | Path) -> ImageSource:
    """The images under ``path``: a folder (with sub-folders), one npz file, or the folder of ``fewstep generate``, whose manifest is
    followed. Raises ScoreError where there are none, or the run that writes the folder has not ended."""
    path = Path(path)
    if path.is_file() and path.suffix == ".npz":
        return ImageSource(str(path), (_part(path),))
    if not path.is_dir():
        raise ScoreError(f"no images at {str(path)!r}: give a folder of pictures ({', '.join(PICTURES)}) or of npz files, or an npz file")
    manifest = _manifest(path)
    if manifest:
        files = {row["file"]: row["sha256"] for row in manifest["samples"]}
        parts = [_part(path / name, digest) for name, digest in files.items()]
    else:
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in (*PICTURES, ".npz") and file.is_file())
        kinds = {file.suffix.lower() == ".npz" for file in found}
        if len(kinds) > 1:
            raise ScoreError(f"{str(path)!r} mixes pictures and npz files; give a folder with one or the other")
        parts = [_part(file) for file in found]
    if not sum(part.count for part in parts):
        raise ScoreError(f"no images ({', '.join(PICTURES)}, .npz) under {str(path)!r}")
    return ImageSource(str(path), tuple(parts), manifest)


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest of ``fewstep generate``; empty where another program wrote the folder."""
    file = path / "manifest.json"
    if not file.is_file():
        if (path / "settings.json").is_file() and (path / "samples").is_dir():
            raise ScoreError(f"{str(path)!r} holds an unfinished run of `fewstep generate`; run it again to the end, or score its samples/")
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not all(isinstance(row["file"], str) and isinstance(row["sha256"], str) for row in found["samples"]):
            raise ArgumentError("'samples' must be rows with 'file' and 'sha256'")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScoreError(f"{str(file)!r} is no manifest of `fewstep generate`: {error!s}; score the folder of the pictures") from error
    return dict(found)


def _part(path: Path, digest: str | None = None) -> Part:
    """A file with the number of its images, which an npz file tells without being unpacked."""
    if path.suffix != ".npz":
        return Part(path, 1, digest)
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            key = "image.npy" if "image.npy" in names else "offset.npy" if {"jpeg.npy", "offset.npy"} <= names else None
            if key is None:
                keys = sorted(name.removesuffix(".npy") for name in names)
                raise ScoreError(f"{str(path)!r} holds {keys}; wanted 'image', or 'jpeg' and 'offset'")
            with archive.open(key) as file:
                shape, kind = _header(file)
    except ScoreError:
        raise
    except DAMAGE as error:
        return Part(path, 1, digest, f"not an npz file: {error}")
    if key == "image.npy" and (kind != np.uint8 or len(shape) not in (3, 4)):
        raise ScoreError(f"{str(path)!r}: images must be uint8 (n, h, w) or (n, h, w, c), got {kind} {shape}")
    return Part(path, shape[0] - (key == "offset.npy"), digest)


def _header(file: Any) -> tuple[tuple[int, ...], Any]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    return shape, kind


def _checked(part: Part) -> bytes:
    """The file's bytes, which must be those of the manifest."""
    data = part.path.read_bytes()
    if part.digest is not None and sha256(data) != part.digest:
        raise ArgumentError("its SHA-256 is not the manifest's: damaged or changed")
    return data


def _arrays(file: io.BytesIO) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as archive:
        return {key: archive[key] for key in ("image",) if key in archive.files} or {key: archive[key] for key in ("jpeg", "offset")}


def picture(data: bytes) -> Any:
    """One picture's file as uint8 (c, h, w). Raises what a damaged file makes Pillow or numpy raise (``DAMAGE``)."""
    if data[:6] == b"\x93NUMPY":
        return _npy(np.load(io.BytesIO(data), allow_pickle=False))
    with Image.open(io.BytesIO(data)) as opened:
        if opened.mode not in MODES:
            raise ArgumentError(f"mode {opened.mode}: grey or RGB pictures of 8 bits are wanted")
        return _channels_first(np.asarray(opened.convert(MODES[opened.mode])))


def _npy(array: Any) -> Any:
    if array.dtype == np.uint8 and array.ndim in (2, 3):
        return _channels_first(array)
    if array.dtype.kind == "f" and array.ndim == 3:
        return to_uint8(torch.from_numpy(array[None].astype(np.float32)))[0].numpy()
    raise ArgumentError(f"{array.dtype} {array.shape}: uint8 (h, w[, c]), or floating point (c, h, w) in [-1, 1], is wanted")


def _channels_first(pixels: Any) -> Any:
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


def image_digests(image: Tensor) -> Tensor:
    """SHA-256 of each image's shape and pixels, uint8 (n, 32): the same from a folder and from an npz file."""
    head = f"{tuple(image.shape[1:])}".encode()
    rows = [np.frombuffer(hashlib.sha256(head + row.tobytes()).digest(), dtype=np.uint8) for row in np.ascontiguousarray(image.numpy())]
    return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, 32, dtype=torch.uint8)


def joint_digest(parts: Sequence[Tensor]) -> str:
    """SHA-256 of the digests of all images, in order: what ``Provenance.data`` says of images that were streamed."""
    return sha256(*(np.ascontiguousarray(part.numpy()) for part in parts))

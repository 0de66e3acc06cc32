"""Files of images: pictures, numpy arrays and npz files, and how many images each one holds.

A picture is a png, jpg, webp or bmp file, grey or RGB (``files.pictures``), or an npy file: uint8
(h, w[, c]), or floating point (c, h, w) in [-1, 1] or in the ``value_range`` given. An npz file
holds ``image`` uint8 (n, h, w[, c]), or ``jpeg`` (the bytes of all files, one after another) with
``offset`` (n + 1). Nothing is unpickled. Images are uint8 (c, h, w).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...checks import ArgumentError
from ...files import sha256
from ...files.arrays import MAGIC, ArrayError, npz_header, npz_names, read_npy, read_npz
from ...files.pictures import MOST_BYTES, SUFFIXES, read_picture
from ..errors import ScoreError
from .grey_levels import to_uint8
from .value_range import Range, Values, check_range

PICTURES = (*SUFFIXES, ".npy")


#: errors raised by a file that cannot be read (MemoryError: a header with a very large size)
DAMAGE = (OSError, ValueError, MemoryError)


@dataclass(frozen=True)
class Part:
    """One file of images.

    Attributes:
        path: of the file.
        count: number of images in it; 1 for a file that cannot be read.
        digest: its SHA-256 according to a manifest; None without one.
        why: why it cannot be read; None where it can.
    """

    path: Path
    count: int
    digest: str | None = None
    why: str | None = None

    @property
    def packed(self) -> bool:
        """Whether it is an npz file."""
        return self.path.suffix.lower() == ".npz"


def part_of(path: Path, digest: str | None = None) -> Part:
    """The ``Part`` of a file; images in an npz file are counted from its headers alone."""
    if path.suffix.lower() != ".npz":
        return Part(path, 1, digest)
    try:
        names = npz_names(path)
    except DAMAGE as error:
        return Part(path, 1, digest, str(error))
    if "image" not in names and not {"jpeg", "offset"} <= set(names):
        raise ScoreError(
            f"{str(path)!r} holds {sorted(names)}; it must hold 'image', or 'jpeg' and 'offset'"
        )
    try:
        return Part(path, _image_count(path) if "image" in names else _stream_count(path), digest)
    except ScoreError:
        raise
    except DAMAGE as error:
        return Part(path, 1, digest, str(error))


def _image_count(path: Path) -> int:
    """Number of images in the array ``image``."""
    found = npz_header(path, "image")
    if found.dtype != np.uint8 or len(found.shape) not in (3, 4):
        other = (
            "; floating point images are read from npy files (c, h, w), one an image"
            if found.dtype.kind == "f"
            else ""
        )
        raise ScoreError(
            f"{str(path)!r}: images must be uint8 (n, h, w) or (n, h, w, c), got "
            f"{found.dtype} {found.shape}{other}"
        )
    if 0 in found.shape:
        raise ScoreError(f"{str(path)!r} holds no image: 'image' has the shape {found.shape}")
    if len(found.shape) == 4 and found.shape[3] not in (1, 3) and found.shape[1] in (1, 3):
        raise ScoreError(
            f"{str(path)!r}: 'image' {found.shape} has its channels second; it must be (n, h, w, c)"
        )
    return found.shape[0]


def _stream_count(path: Path) -> int:
    """Number of images in a stream of files. ScoreError unless its offsets rise within it."""
    jpeg, offset = npz_header(path, "jpeg"), read_npz(path, ("offset",))["offset"]
    if (
        jpeg.dtype != np.uint8
        or len(jpeg.shape) != 1
        or offset.dtype.kind not in "iu"
        or offset.ndim != 1
    ):
        raise ScoreError(
            f"{str(path)!r}: 'jpeg' must be uint8 (bytes,) and 'offset' integers (n + 1,), "
            f"got {jpeg.dtype} {jpeg.shape} and "
            f"{offset.dtype} {offset.shape}"
        )
    if len(offset) < 2:
        raise ScoreError(
            f"{str(path)!r} holds no image: 'offset' has {len(offset)} entries, must be n + 1"
        )
    edges = [int(edge) for edge in offset]
    if edges[0] < 0 or edges[-1] > jpeg.shape[0] or any(b < a for a, b in pairwise(edges)):
        raise ScoreError(
            f"{str(path)!r}: 'offset' must rise from 0 to at most {jpeg.shape[0]}, the bytes "
            "of 'jpeg'"
        )
    return len(edges) - 1


def checked_bytes(part: Part) -> bytes:
    """The file's bytes. ArgumentError where their SHA-256 differs from the manifest's."""
    if part.path.stat().st_size > MOST_BYTES and not part.packed:
        raise ArgumentError(
            f"a file of {part.path.stat().st_size} bytes: at most {MOST_BYTES} are read"
        )
    data = part.path.read_bytes()
    if part.digest is not None and sha256(data) != part.digest:
        raise ArgumentError("its SHA-256 is not the manifest's: damaged or changed")
    return data


def packed_arrays(part: Part) -> dict[str, Any] | str:
    """The arrays of an npz file, or the reason why they cannot be read (returned, so that it is
    found once and not for each image)."""
    try:
        return read_npz(
            io.BytesIO(checked_bytes(part)) if part.digest else part.path,
            ("image", "jpeg", "offset"),
        )
    except DAMAGE as error:
        return str(error).strip() or type(error).__name__


def read_image(data: bytes, value_range: Range = None) -> Any:
    """Decode one picture or npy file to uint8 (c, h, w).

    The values of a floating point npy file must be consistent with ``value_range``. Raises
    ArgumentError (ScoreError, PictureError or ArrayError) for a file that cannot be read.
    """
    found, values = decoded(data, check_range(value_range), data.startswith(MAGIC))
    values.judge(value_range)
    return found


def decoded(data: bytes, limits: Range, array: bool) -> tuple[Any, Values]:
    """The image of a picture, or of an npy file (``array``), as uint8 (c, h, w), and its ``Values``
    where it was floating point."""
    if not array:
        return read_picture(data), Values()
    if not data.startswith(MAGIC):
        raise ArrayError("named .npy, but not a numpy array")
    found = image_array(read_npy(data))
    if found.dtype == np.uint8:
        return channels_first(found), Values()
    given = torch.from_numpy(found[None])
    if not bool(torch.isfinite(given).all()):
        raise ScoreError("holds NaN or infinity")
    return to_uint8(given, "round", limits)[0].numpy(), Values.of(given, limits)


def image_array(array: Any) -> Any:
    """Check that an array is an image: uint8 (h, w[, c]) as it is, floating point (c, h, w) in a
    dtype that torch supports. ArgumentError otherwise."""
    if array.size and array.dtype == np.uint8 and array.ndim in (2, 3):
        return array
    if (
        array.size
        and array.dtype.kind == "f"
        and array.ndim == 3
        and (array.shape[0] in (1, 3) or array.shape[2] not in (1, 3))
    ):
        return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64)
    raise ArgumentError(
        f"{array.dtype} {array.shape}: must be uint8 (h, w[, c]), or floating point (c, h, w) in "
        "[-1, 1]"
    )


def channels_first(pixels: Any) -> Any:
    """uint8 (h, w[, c]) as (c, h, w). ArgumentError where the channels are first already."""
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.shape[2] not in (1, 3) and pixels.shape[0] in (1, 3):
        raise ArgumentError(f"uint8 {pixels.shape} has its channels first; must be (h, w[, c])")
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))

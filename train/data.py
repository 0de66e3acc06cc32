"""Reads images and labels for training from an npz file or a folder of images, as one uint8 tensor
in memory.

Three forms are read: an npz with ``image`` (n, h, w[, c]) uint8; an npz with ``jpeg`` (all files
concatenated) and ``offset`` (n+1), image i being ``jpeg[offset[i]:offset[i+1]]``; a folder of image
files, whose sub-folders (if any) are the classes, in order of name. The rules of ``files.pictures``
decide which image files are accepted; hidden files and folders are skipped (``files.listing``).
Nothing is ever unpickled. Pixels are scaled to the network's range by ``x = image / 127.5 - 1``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..checks import ArgumentError, integer
from ..files.arrays import ArrayError, npz_names, read_npz
from ..files.listing import list_files
from ..files.pictures import MOST_BYTES, SUFFIXES, PictureError, read_picture

#: largest number of classes
MOST_CLASSES = 2**20
#: largest side of an image after resizing
MOST_SIDE = 8192


class DataError(ArgumentError):
    """The training data cannot be read or do not have the right form."""


@dataclass(frozen=True)
class Images:
    """Training data: ``image`` uint8 (n, c, h, h); ``label`` int64 (n,), zeros without classes;
    ``classes``, their number (0: none); ``left_out``: names of the files in a folder that were
    skipped."""

    image: Tensor
    label: Tensor
    classes: int
    left_out: str = ""

    def __len__(self) -> int:
        """Number of images."""
        return int(self.image.shape[0])


def to_unit(image: Tensor) -> Tensor:
    """Convert uint8 in 0..255 to float32 in [-1, 1]; float32 channels are returned unchanged."""
    if image.dtype == torch.float32:
        return image
    return image.to(torch.float32) / 127.5 - 1.0


def load_images(path: str | Path, size: int | None = None) -> Images:
    """Read ``path`` (npz or folder). ``size`` crops the images of a folder at the centre and
    resizes them to size x size. Raises DataError."""
    path = Path(path)
    try:
        side = None if size is None else integer("size", size, 1, MOST_SIDE)
    except ArgumentError as error:
        raise DataError(str(error)) from error
    if path.is_dir():
        return from_folder(path, side)
    if not path.is_file():
        raise DataError(
            f"no training data at {str(path)!r}: give an npz file or a folder of images"
        )
    if side is not None:
        raise DataError(
            f"size={side}: only the images of a folder are cropped and resized; "
            f"{str(path)!r} is a file"
        )
    try:
        found = npz_names(path)
        arrays = read_npz(
            path, ("image", "label") if "image" in found else ("jpeg", "offset", "label")
        )
    except (ArrayError, OSError) as error:
        raise DataError(f"{str(path)!r}: {error}") from error
    if "image" in arrays:
        image = arrays["image"]
    elif "jpeg" in arrays and "offset" in arrays:
        image = decode(arrays["jpeg"], arrays["offset"], str(path))
    else:
        raise DataError(
            f"{str(path)!r} holds {sorted(found)}; must hold 'image', or 'jpeg' and 'offset' "
            "(and 'label')"
        )
    return bundle(image, arrays.get("label"), str(path))


def decode(jpeg: np.ndarray, offset: np.ndarray, where: str = "the stream") -> np.ndarray:
    """Decode all files of a JPEG stream to (n, h, w, c) uint8. Raises DataError."""
    if (
        jpeg.dtype != np.uint8
        or jpeg.ndim != 1
        or offset.dtype.kind not in "iu"
        or offset.ndim != 1
        or len(offset) < 2
    ):
        raise DataError(
            f"{where!r}: 'jpeg' must be uint8 (bytes,) and 'offset' integers (n + 1,), n >= 1"
        )
    edges = [int(edge) for edge in offset]
    if edges[0] < 0 or edges[-1] > len(jpeg) or sorted(edges) != edges:
        raise DataError(
            f"{where!r}: 'offset' must rise from 0 to at most {len(jpeg)}, the number "
            "of bytes of 'jpeg'"
        )
    pictures = []
    for i in range(len(edges) - 1):
        try:
            pictures.append(
                np.moveaxis(read_picture(jpeg[edges[i] : edges[i + 1]].tobytes()), 0, -1)
            )
        except PictureError as error:
            raise DataError(
                f"{where!r}: image {i} of the JPEG stream cannot be decoded: {error}"
            ) from error
    return _stacked(pictures, where)


def from_folder(path: Path, size: int | None) -> Images:
    """Read a folder; sub-folders are classes. Images of one size are not resized unless ``size`` is
    given."""
    try:
        files, left = list_files(path, SUFFIXES)
    except ArgumentError as error:
        raise DataError(str(error)) from error
    said = left.text()
    if not files:
        raise DataError(
            f"no images ({', '.join(SUFFIXES)}) under {str(path)!r}" + (f"; {said}" if said else "")
        )
    groups = sorted({file.relative_to(path).parts[0] for file in files if file.parent != path})
    if groups and any(file.parent == path for file in files):
        raise DataError(
            f"{str(path)!r} holds both images and class folders "
            f"{groups[:5]}; it must hold only one of them"
        )
    label = (
        np.array([groups.index(file.relative_to(path).parts[0]) for file in files])
        if groups
        else None
    )
    return bundle(
        _stacked([_picture(file, size) for file in files], str(path)), label, str(path), said
    )


def _picture(file: Path, size: int | None) -> np.ndarray:
    """Return the pixels (h, w, c) of one file, cropped and resized to ``size`` if it is given."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise PictureError(
                f"a file of {file.stat().st_size} bytes: at most {MOST_BYTES} are read"
            )
        pixels = np.moveaxis(read_picture(file.read_bytes()), 0, -1)
    except (PictureError, OSError) as error:
        raise DataError(f"{str(file)!r} cannot be read: {error}") from error
    if size is None:
        return pixels
    made = np.asarray(
        crop(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels), size)
    )
    return made.reshape(size, size, -1)


def _stacked(pictures: list[np.ndarray], where: str) -> np.ndarray:
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1:
        raise DataError(
            f"images of different shapes {sorted(shapes)[:4]} (height, width, channels) "
            f"under {where!r}; all must be grey or all RGB, and "
            "a size crops and resizes those of a folder"
        )
    return np.stack(pictures)


def crop(picture: Image.Image, size: int) -> Image.Image:
    """Return the largest centred square, resized to size x size."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return square if side == size else square.resize((size, size), Image.Resampling.LANCZOS)


def bundle(image: np.ndarray, label: np.ndarray | None, where: str, left_out: str = "") -> Images:
    """Check the shapes and convert to tensors."""
    shape = image.shape
    if image.ndim == 3:
        image = image[..., None]
    if image.ndim != 4 or image.dtype != np.uint8 or image.shape[1] != image.shape[2] or 0 in shape:
        raise DataError(
            f"{where!r}: images must be uint8 (n, h, h) or (n, h, h, c), at least one; got "
            f"{image.dtype} {shape}"
        )
    classes = 0
    if label is not None:
        if label.shape != image.shape[:1] or label.dtype.kind not in "iu":
            raise DataError(
                f"{where!r}: {image.shape[0]} images but labels {label.dtype} {label.shape}; "
                "they must be integers, one per image"
            )
        low, high = int(label.min()), int(label.max())
        if low < 0 or high >= MOST_CLASSES:
            raise DataError(
                f"{where!r}: labels from {low} to {high}; classes are numbered from 0 to at "
                f"most {MOST_CLASSES - 1}"
            )
        classes = high + 1
    label = np.zeros(len(image)) if label is None else label
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
    return Images(pixels, torch.from_numpy(label.astype(np.int64)), classes, left_out)

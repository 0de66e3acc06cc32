"""Images and labels for training, from an npz file or a folder of images, as one uint8 tensor in memory.

Three forms are read: an npz with ``image`` (n, h, w[, c]) uint8; an npz with ``jpeg`` (all files one after another) and ``offset``
(n+1), image i being ``jpeg[offset[i]:offset[i+1]]``; a folder of image files, whose sub-folders (if any) are the classes, in order
of name. Nothing is ever unpickled. Pixels map to the network's scale by ``x = image / 127.5 - 1``.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..checks import ArgumentError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class DataError(ArgumentError):
    """The training data cannot be read or does not have the right form."""


@dataclass(frozen=True)
class Images:
    """``image`` uint8 (n, c, h, h); ``label`` int64 (n,), zeros without classes; ``classes`` how many there are (0: none)."""

    image: Tensor
    label: Tensor
    classes: int

    def __len__(self) -> int:
        """How many images."""
        return int(self.image.shape[0])


def to_unit(image: Tensor) -> Tensor:
    """uint8 in 0..255 to float32 in [-1, 1]."""
    return image.to(torch.float32) / 127.5 - 1.0


def load_images(path: str | Path, size: int | None = None) -> Images:
    """Read ``path`` (npz or folder). ``size`` resizes the images of a folder to size x size (centre crop). Raises DataError."""
    path = Path(path)
    if path.is_dir():
        return from_folder(path, size)
    if not path.is_file():
        raise DataError(f"no training data at {str(path)!r}: give an npz file or a folder of images")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = archive.files
            arrays = {key: archive[key] for key in found if key in ("image", "jpeg", "offset", "label")}
    except (ValueError, OSError, BadZipFile, AttributeError, TypeError) as error:
        raise DataError(f"{str(path)!r} is not an npz file of plain arrays: {error}") from error
    if "image" in arrays:
        image = arrays["image"]
    elif "jpeg" in arrays and "offset" in arrays:
        try:
            image = decode(arrays["jpeg"], arrays["offset"])
        except (OSError, ValueError) as error:
            raise DataError(f"{str(path)!r}: the JPEG stream cannot be decoded: {error}") from error
    else:
        raise DataError(f"{str(path)!r} holds {sorted(found)}; wanted 'image', or 'jpeg' and 'offset' (and 'label')")
    return bundle(image, arrays.get("label"), str(path))


def decode(jpeg: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """All files of a JPEG stream, (n, h, w, 3) uint8."""
    files = (jpeg[a:b].tobytes() for a, b in zip(offset[:-1].tolist(), offset[1:].tolist(), strict=True))
    return np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])


def from_folder(path: Path, size: int | None) -> Images:
    """Read a folder; sub-folders are classes. Images of one size are kept as they are unless ``size`` asks for another."""
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"no images ({', '.join(SUFFIXES)}) under {str(path)!r}")
    groups = sorted({file.relative_to(path).parts[0] for file in files if file.parent != path})
    loose = any(file.parent == path for file in files)
    if groups and loose:
        raise DataError(f"{str(path)!r} mixes images and class folders {groups[:5]}; use one or the other")
    label = np.array([groups.index(file.relative_to(path).parts[0]) for file in files]) if groups else None
    pictures = []
    for file in files:
        with Image.open(file) as opened:
            picture = opened.convert("L" if opened.mode in ("1", "L", "I;16") else "RGB")
            pictures.append(np.asarray(picture if size is None else crop(picture, size)))
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1:
        raise DataError(f"images of different shapes {sorted(shapes)[:4]} under {str(path)!r}; give a size to crop and resize them to")
    return bundle(np.stack(pictures), label, str(path))


def crop(picture: Image.Image, size: int) -> Image.Image:
    """The largest centred square, resized to size x size."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return square if side == size else square.resize((size, size), Image.Resampling.LANCZOS)


def bundle(image: np.ndarray, label: np.ndarray | None, where: str) -> Images:
    """Check shapes and make tensors."""
    shape = image.shape
    if image.ndim == 3:
        image = image[..., None]
    if image.ndim != 4 or image.dtype != np.uint8 or image.shape[1] != image.shape[2]:
        raise DataError(f"{where!r}: images must be uint8 (n, h, h) or (n, h, h, c); got {image.dtype} {shape}")
    if label is not None and label.shape != image.shape[:1]:
        raise DataError(f"{where!r}: {image.shape[0]} images but labels of shape {label.shape}")
    classes = 0 if label is None else int(label.max()) + 1
    label = np.zeros(len(image)) if label is None else label
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
    return Images(pixels, torch.from_numpy(label.astype(np.int64)), classes)

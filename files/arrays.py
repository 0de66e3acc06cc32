"""Reading npy and npz files from untrusted sources. A header is checked against the number of bytes
that follow it before memory is allocated.

Numbers and texts are read, in C or Fortran order and either byte order (converted to the native
one). Pickled objects are never read.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..checks import ArgumentError

MAGIC = b"\x93NUMPY"
#: kinds of dtype that are read: booleans, integers, floating point numbers, texts
KINDS = "biufU"
#: the largest compression ratio of deflate
DEFLATE = 1032


class ArrayError(ArgumentError):
    """A file of arrays that is damaged, or whose header disagrees with its size."""


@dataclass(frozen=True)
class Header:
    """Header of an npy file: shape and dtype of the array, and ``length``, the bytes of the header
    itself."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    length: int


def read_npy(data: bytes) -> np.ndarray:
    """The array of an npy file's bytes. Raises ArrayError."""
    return _read(io.BytesIO(data), len(data), "the npy file")


def read_npz(path: str | Path | IO[bytes], names: Iterable[str]) -> dict[str, np.ndarray]:
    """The arrays of an npz file among ``names``; absent ones are left out. Raises ArrayError."""
    with _Archive(path) as archive:
        return {name: archive.read(name) for name in names if name in archive.sizes}


def npz_names(path: str | Path) -> tuple[str, ...]:
    """The names of all arrays of an npz file. Raises ArrayError."""
    with _Archive(path) as archive:
        return tuple(archive.sizes)


def npz_header(path: str | Path, name: str) -> Header:
    """Shape and dtype of an array, checked against its size; the values are not read. Raises
    ArrayError."""
    with _Archive(path) as archive:
        return archive.header(name)


def npy_header(path: str | Path) -> Header:
    """Shape and dtype of an npy file, checked against its size; the values are not read. Raises
    ArrayError, OSError."""
    with Path(path).open("rb") as file:
        return _header(file, Path(path).stat().st_size, repr(str(path)))


class _Archive:
    """A zip archive of npy files; the sizes in its directory are checked."""

    def __init__(self, path: str | Path | IO[bytes]) -> None:
        try:
            self.zip = zipfile.ZipFile(path)
            infos = self.zip.infolist()
        except _DAMAGE as error:
            raise ArrayError(f"not an npz file: {_said(error)}") from None
        self.sizes = {info.filename.removesuffix(".npy"): info for info in infos}
        if len(self.sizes) != len(infos):
            self.zip.close()
            raise ArrayError("not an npz file of plain arrays: duplicate name")

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *error: object) -> None:
        self.zip.close()

    def header(self, name: str) -> Header:
        try:
            with self.zip.open(self.sizes[name]) as file:
                return _header(file, self._size(name), repr(name))
        except ArrayError:
            raise
        except _DAMAGE as error:
            raise ArrayError(f"not an npz file of plain arrays: {name!r}: {_said(error)}") from None

    def read(self, name: str) -> np.ndarray:
        try:
            with self.zip.open(self.sizes[name]) as file:
                made = _read(file, self._size(name), repr(name))
                file.read(1)  # reaches the end of the member, where zipfile compares the checksum
                return made
        except ArrayError:
            raise
        except _DAMAGE as error:
            raise ArrayError(f"not an npz file of plain arrays: {name!r}: {_said(error)}") from None

    def _size(self, name: str) -> int:
        info = self.sizes[name]
        if info.file_size > DEFLATE * info.compress_size + 4096:
            raise ArrayError(
                f"{name!r}: {info.compress_size} packed bytes cannot hold {info.file_size}"
            )
        return info.file_size


#: errors of zipfile and numpy for a damaged file (RuntimeError: encrypted, or, as its subclass
#: NotImplementedError, unknown compression)
_DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
)


def _said(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__


def _header(file: IO[bytes], size: int, what: str) -> Header:
    """The header of an array that takes ``size`` bytes."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ArrayError(f"{what}: version {version} of the npy format is not known")
        if version == (3, 0):  # 2.0 in UTF-8, for the names of structured dtypes, which are refused
            raise ArrayError(f"{what}: a structured dtype is not read")
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
    except ArrayError:
        raise
    except Exception as error:
        # the header is a Python literal: parsing it may raise anything that the parser does
        raise ArrayError(f"not an npy file of plain arrays: {what}: {_said(error)}") from None
    if dtype.hasobject:
        raise ArrayError(f"{what}: not plain arrays: pickled objects are never read")
    if dtype.kind not in KINDS:
        raise ArrayError(f"{what}: not plain arrays: dtype {dtype} is not read")
    if any(isinstance(n, bool) or n < 0 for n in shape):
        raise ArrayError(f"{what}: its header gives the shape {shape}")
    found = Header(tuple(int(n) for n in shape), dtype, file.tell())
    if math.prod(found.shape) * dtype.itemsize != size - found.length:
        raise ArrayError(
            f"{what}: its header gives {dtype} {found.shape}, "
            f"{math.prod(found.shape) * dtype.itemsize} bytes; {size - found.length} follow"
        )
    return found


def _read(file: IO[bytes], size: int, what: str) -> np.ndarray:
    found = _header(file, size, what)
    file.seek(0)
    try:
        made = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # as above
        raise ArrayError(f"not an npy file of plain arrays: {what}: {_said(error)}") from None
    if made.shape != found.shape:
        raise ArrayError(f"{what}: its header gives {found.shape}, {made.shape} was read")
    return made if made.dtype.isnative else made.astype(made.dtype.newbyteorder("="))

"""Measurements and true samples, read from files or given as tensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError, shown
from ..files import read_tensors, sha256
from ..files.arrays import npz_names, read_npy, read_npz
from .blocks import Block
from .data_source import DataSource

if TYPE_CHECKING:
    from torch import Tensor

#: arrays of npz files that are pictures
PICTURES = {"image", "jpeg"}
ALLOWED = "allowed are .npy, .npz, .safetensors and pictures"


def read_measurement(given: Any) -> Tensor:
    """The measurement ``given``: a tensor, or a file whose array is called ``y`` or is the only
    one; pixels of a picture become values from -1 to 1, (c, h, w). Raises ArgumentError."""
    return _finite("measurement", _array("measurement", given, ("y", "measurement")), given)


def read_truth(given: Any, shape: tuple[int, ...]) -> Tensor:
    """True samples (K, *shape): a tensor, a file, whose array is called ``x`` or is the only one, a
    folder of pictures or npz files, or a folder of ``generate``. Raises ArgumentError."""
    if isinstance(given, (str, Path)) and _is_source(Path(given)):
        source = DataSource(Path(given))
        every = Block(0, tuple(range(source.count)), (None,) * source.count)
        found = _tensor("truth", source.read(every))
    else:
        found = _array("truth", given, ("x", "truth"))
    found = found[None] if found.ndim == len(shape) else found
    if tuple(found.shape[1:]) != shape or not len(found):
        raise ArgumentError(
            f"truth={shown(_name(given))} holds samples of shape {tuple(found.shape[1:])}, those "
            f"of the model have {shape}"
        )
    return _finite("truth", found, given)


def tensor_hash(value: Tensor) -> str:
    """The hash of a tensor on the CPU."""
    data = value.contiguous().numpy()
    return sha256(f"{data.dtype} {data.shape};", data.tobytes())


def given_name(given: Any) -> str | None:
    """How a file is recorded; a tensor has no name."""
    return str(given) if isinstance(given, (str, Path)) else None


def _name(given: Any) -> Any:
    return str(given) if isinstance(given, Path) else given


def _is_source(path: Path) -> bool:
    """Whether ``path`` is a folder, or an npz file of pictures."""
    if path.is_dir():
        return True
    packed = path.suffix.lower() == ".npz" and path.is_file()
    return packed and bool(PICTURES & set(npz_names(path)))


def _array(setting: str, given: Any, names: tuple[str, ...]) -> Tensor:
    """The array of a file, float32 or float64 on the CPU."""
    if not isinstance(given, (str, Path)):
        return _tensor(setting, given)
    path, kind = Path(given), Path(given).suffix.lower()
    if not path.is_file():
        raise ArgumentError(f"{setting}: there is no file {str(path)!r}")
    if kind == ".npy":
        return _tensor(setting, read_npy(path.read_bytes()))
    if kind == ".npz":
        key = _key(setting, path, npz_names(path), names)
        return _tensor(setting, read_npz(path, (key,))[key])
    if kind == ".safetensors":
        tensors = read_tensors(path, setting)
        return _tensor(setting, tensors[_key(setting, path, tuple(tensors), names)])
    return _picture(setting, path)


def _picture(setting: str, path: Path) -> Tensor:
    from ..files.pictures import SUFFIXES, read_picture

    if path.suffix.lower() not in SUFFIXES:
        raise ArgumentError(f"{setting}={str(path)!r}: {ALLOWED} ({', '.join(SUFFIXES)})")
    return _tensor(setting, read_picture(path.read_bytes())) / 127.5 - 1.0


def _key(setting: str, path: Path, there: tuple[str, ...], names: tuple[str, ...]) -> str:
    """The array that is meant."""
    found = [name for name in names if name in there] or list(there)
    if len(found) != 1:
        raise ArgumentError(
            f"{setting}={str(path)!r} holds the arrays {', '.join(sorted(there)) or 'none'}: must "
            f"hold one, or one called {names[0]!r}"
        )
    return found[0]


def _tensor(setting: str, value: Any) -> Tensor:
    """Real numbers as float64, if they have that precision, or float32, on the CPU."""
    import numpy as np
    import torch

    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        wide = np.float64 if value.dtype == np.float64 else np.float32
        value = torch.from_numpy(np.array(value, dtype=wide))  # a copy: files may be read-only
    if not isinstance(value, torch.Tensor) or value.is_complex():
        raise ArgumentError(
            f"{setting}={shown(value)}: must be a file, or a tensor of real numbers (complex ones "
            "are two real ones)"
        )
    dtype = torch.float64 if value.dtype == torch.float64 else torch.float32
    return value.detach().to("cpu", dtype)


def _finite(setting: str, value: Tensor, given: Any) -> Tensor:
    import torch

    bad = int((~torch.isfinite(value)).sum())
    if bad or not value.numel():
        name = given_name(given)
        what = f"{bad} of {value.numel()} values are NaN or infinite" if bad else "no values"
        raise ArgumentError(f"{setting}{'' if name is None else f'={name!r}'}: {what}")
    return value

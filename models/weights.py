"""Reads model folders: a network with its settings from ``config.json`` and ``model.safetensors``.

Bundled models are in ``models/bundled/NAME``. Files are read as JSON and safetensors only, never
unpickled. Networks are returned in evaluation mode, float32, channels-last, without gradients for
their weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .. import files
from ..checks import shown, unknown
from .errors import ModelError
from .unet import UNet, UNetConfig

FORMAT = "fewstep-unet"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
#: name of the exact model that ``load`` builds; it has no folder
MIXTURE = "mixture"
BUNDLED = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class Loaded:
    """A network with its configuration: ``config`` is the content of config.json; ``sigma_data``
    and the noise range are read from it."""

    network: UNet
    config: Mapping[str, Any]
    sigma_data: float
    sigma_min: float
    sigma_max: float


def names() -> tuple[str, ...]:
    """Names of the bundled models that are present, in alphabetical order."""
    return tuple(
        sorted(
            file.parent.name
            for file in BUNDLED.glob(f"*/{CONFIG}")
            if (file.parent / WEIGHTS).is_file()
        )
    )


def locate(name_or_folder: str | Path) -> Path:
    """Return the folder of a bundled name or of a path. Raises ModelError for other values."""
    if not isinstance(name_or_folder, (str, Path)):
        raise ModelError(
            f"{shown(name_or_folder)}: must be the name of a model ({', '.join(names())}) or a "
            "folder"
        )
    if str(name_or_folder) in names():
        return BUNDLED / str(name_or_folder)
    folder = Path(name_or_folder)
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise ModelError(
            f"{str(folder)!r} is a file; give the folder that holds {CONFIG} and {WEIGHTS}"
        )
    raise ModelError(
        f"{unknown('model', str(name_or_folder), (*names(), MIXTURE))}; or a folder with "
        f"{CONFIG} and {WEIGHTS}"
    )


def load_network(name_or_folder: str | Path) -> Loaded:
    """Return the network of a bundled name or a fewstep folder, with its configuration. Raises
    ModelError if it is damaged."""
    folder = locate(name_or_folder)
    config = read_json(folder / CONFIG)
    if config.get("format") != FORMAT:
        raise ModelError(
            f"{str(folder / CONFIG)!r}: format {config.get('format')!r} is not known; "
            f"allowed: {FORMAT!r}"
        )
    try:
        with torch.device("meta"):
            network = UNet(UNetConfig.from_dict(config["network"]))
        edm = config["edm"]
        numbers = [float(edm[key]) for key in ("sigma_data", "sigma_min", "sigma_max")]
    except KeyError as error:
        raise ModelError(f"{str(folder / CONFIG)!r} lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise ModelError(f"{str(folder / CONFIG)!r}: {error}") from error
    tensors = read_weights(folder / WEIGHTS)
    check_tensors(network.state_dict(), tensors, folder / WEIGHTS)
    network.load_state_dict(
        {
            key: value.float() if value.is_floating_point() else value
            for key, value in tensors.items()
        },
        assign=True,
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Loaded(network.eval().requires_grad_(False), config, *numbers)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from ``path``. Raises ModelError."""
    try:
        return files.read_json(path)
    except FileNotFoundError:
        raise ModelError(
            f"no {path.name} in {str(path.parent)!r}; a model folder holds {CONFIG} and {WEIGHTS}"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{error}") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file. Raises ModelError if it is missing or damaged."""
    if not path.is_file():
        raise ModelError(
            f"no {path.name} in {str(path.parent)!r}; a model folder holds {CONFIG} and {WEIGHTS}"
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{str(path)!r} is not a readable safetensors file: {error}") from error


def check_tensors(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    """Raise ModelError unless ``found`` has the names, shapes and kinds of dtype of ``wanted``, and
    finite numbers only."""
    check_shapes(wanted, found, path)
    check_kinds(wanted, {key: value.dtype for key, value in found.items()}, path)
    check_finite(found, path)


def check_kinds(wanted: Mapping[str, Tensor], found: Mapping[str, torch.dtype], path: Path) -> None:
    """Raise ModelError if a tensor is not floating point and the network's is: converting such
    weights would lose information.

    Integers are accepted if the network's own entry is an integer (a count, an index).
    """
    wrong = [
        f"{key} is {str(kind).removeprefix('torch.')}, the network's "
        f"{str(wanted[key].dtype).removeprefix('torch.')}"
        for key, kind in found.items()
        if key in wanted
        and kind != wanted[key].dtype
        and not (kind.is_floating_point and wanted[key].is_floating_point())
    ]
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise ModelError(
            f"{str(path)!r}: weights must be floating point: {'; '.join(wrong[:3])}{more}"
        )


def check_finite(found: Mapping[str, Tensor], path: Path) -> None:
    """Raise ModelError if a floating point tensor holds a NaN or an infinity."""
    wide = {
        key: value if value.itemsize > 1 else value.float()
        for key, value in found.items()
        if value.is_floating_point()
    }
    bad = [key for key, value in wide.items() if not bool(torch.isfinite(value).all())]
    if bad:
        more = f" (and {len(bad) - 3} more)" if len(bad) > 3 else ""
        raise ModelError(
            f"{str(path)!r}: weights that are NaN or infinite: {', '.join(bad[:3])}{more}"
        )


def check_shapes(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    """Raise ModelError unless ``found`` has exactly the names and shapes of ``wanted``."""
    wrong = [f"{key} is missing" for key in wanted if key not in found]
    wrong += [f"{key} is not part of the network" for key in found if key not in wanted]
    for key, value in wanted.items():
        if key in found and found[key].shape != value.shape:
            wrong.append(
                f"{key} has shape {tuple(found[key].shape)}, the network {tuple(value.shape)}"
            )
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise ModelError(f"{str(path)!r} does not fit its {CONFIG}: {'; '.join(wrong[:3])}{more}")

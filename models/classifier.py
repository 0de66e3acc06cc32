"""A small image classifier whose penultimate layer is a feature extractor: the network behind ``fd-mnist``.

Blocks of 3x3 convolutions (each with batch normalisation and GELU), halving the image between blocks, then the mean over the image, a
linear layer to the features, GELU, and a linear layer to the classes. A model folder holds ``config.json`` (``"format":
"fewstep-classifier"``) and ``model.safetensors`` in float16.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .errors import ModelError
from .weights import BUNDLED, CONFIG, WEIGHTS, check_shapes, read_json, read_weights

FORMAT = "fewstep-classifier"


@dataclass(frozen=True)
class ClassifierConfig:
    """Shape of the network: image size and channels, channels of each block, length of the feature vector, classes."""

    image_size: int = 28
    channels: int = 1
    classes: int = 10
    widths: tuple[int, ...] = (16, 32, 96)
    features: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        for name in ("image_size", "channels", "classes", "features"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ModelError(f"{name}={value!r}: an integer of at least 1 is wanted")
        if not self.widths or any(isinstance(w, bool) or not isinstance(w, int) or w < 1 for w in self.widths):
            raise ModelError(f"widths={self.widths!r}: at least one integer of at least 1 is wanted")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassifierConfig:
        """From config.json's ``network``; ModelError for unknown keys."""
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ModelError(f"unknown keys {unknown}; allowed: {sorted(cls.__dataclass_fields__)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """For config.json."""
        return asdict(self) | {"widths": list(self.widths)}


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.GELU())


class Classifier(nn.Module):
    """Images in [-1, 1] (n, c, h, h) to logits (n, classes); ``features`` gives the penultimate layer."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        layers = [_convolution(config.channels, config.widths[0], 1)]
        for before, after in zip(config.widths[:-1], config.widths[1:], strict=True):
            layers += [_convolution(before, before, 2), _convolution(before, after, 1)]
        last = config.widths[-1]
        layers.append(_convolution(last, last, 2))
        self.body = nn.Sequential(*layers)
        self.neck = nn.Linear(last, config.features)
        self.head = nn.Linear(config.features, config.classes)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate layer (n, features) of images ``x`` in [-1, 1]."""
        pooled: Tensor = self.body(x).mean(dim=(2, 3))
        return nn.functional.gelu(self.neck(pooled))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits


def classifier_folder(name_or_folder: str | Path) -> Path:
    """The folder of a bundled feature network (``mnist``) or of a path. Raises ModelError for what is neither."""
    bundled = BUNDLED / "features" / str(name_or_folder)
    if "/" not in str(name_or_folder) and (bundled / CONFIG).is_file():
        return bundled
    if (Path(name_or_folder) / CONFIG).is_file():
        return Path(name_or_folder)
    known = sorted(file.parent.name for file in (BUNDLED / "features").glob(f"*/{CONFIG}"))
    raise ModelError(f"no feature network {str(name_or_folder)!r}; bundled: {', '.join(known) or 'none'}; or a folder with {CONFIG}")


def load_classifier(name_or_folder: str | Path) -> tuple[Classifier, dict[str, Any], str]:
    """The network in evaluation mode and float32, its config.json, and the SHA-256 of its weight file. Raises ModelError."""
    folder = classifier_folder(name_or_folder)
    config = read_json(folder / CONFIG)
    if config.get("format") != FORMAT:
        raise ModelError(f"{str(folder / CONFIG)!r}: format {config.get('format')!r} is not known; allowed: {FORMAT!r}")
    if not isinstance(config.get("network"), dict):
        raise ModelError(f"{str(folder / CONFIG)!r} lacks 'network'")
    with torch.device("meta"):
        network = Classifier(ClassifierConfig.from_dict(config["network"]))
    tensors = read_weights(folder / WEIGHTS)
    check_shapes(network.state_dict(), tensors, folder / WEIGHTS)
    floats = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    network.load_state_dict(floats, assign=True)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False), config, digest

"""A small image classifier whose penultimate layer is the feature extractor of ``fd-mnist`` and
``fd-cifar``.

``strided`` (digits): blocks of 3x3 convolutions (each with batch normalisation and GELU) that halve
the image between blocks, then the mean over the image, a linear layer to the features, GELU, and a
linear layer to the classes.

``whitened`` (colour images): a frozen 2x2 convolution whose kernels are the principal axes of the
training images' patches, scaled to unit variance, and their negatives (Page 2019, "How to train
your ResNet"; Jordan 2024, arXiv 2404.00498, section 3.1), ReLU; then blocks of two 3x3
convolutions, the first followed by a 2x2 maximum, the second with a skip connection; the mean over
the image is the feature vector, and a linear layer gives the classes. ``widths`` are the channels
of the stem and of each block.

A model folder holds ``config.json`` (``"format": "fewstep-classifier"``) and ``model.safetensors``
in float16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..files import file_hash
from .errors import ModelError
from .weights import BUNDLED, CONFIG, WEIGHTS, check_tensors, read_json, read_weights

FORMAT = "fewstep-classifier"
KINDS = ("strided", "whitened")
#: side of the whitened stem's patches
PATCH = 2
#: factor of the logits of a whitened network, whose features are large
LOGIT_SCALE = 0.125


@dataclass(frozen=True)
class ClassifierConfig:
    """Architecture of the classifier: image size and channels, channels of each block, length of
    the feature vector, number of classes, and the kind (``strided`` or ``whitened``)."""

    image_size: int = 28
    channels: int = 1
    classes: int = 10
    widths: tuple[int, ...] = (16, 32, 96)
    features: int = 64
    kind: str = "strided"

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        for name in ("image_size", "channels", "classes", "features"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ModelError(f"{name}={value!r}: must be an integer >= 1")
        if not self.widths or any(
            isinstance(w, bool) or not isinstance(w, int) or w < 1 for w in self.widths
        ):
            raise ModelError(f"widths={self.widths!r}: must be one or more integers >= 1")
        if self.kind not in KINDS:
            raise ModelError(f"kind={self.kind!r}: allowed are {', '.join(KINDS)}")
        if self.kind == "whitened":
            self._check_whitened()

    def _check_whitened(self) -> None:
        most = 2 * self.channels * PATCH**2
        if len(self.widths) < 2 or self.widths[0] % 2 or self.widths[0] > most:
            raise ModelError(
                f"widths={self.widths!r}: the stem must have an even number of channels, at "
                f"most {most} (axes and their negatives), then blocks"
            )
        if self.features != self.widths[-1]:
            raise ModelError(
                f"features={self.features!r}: must be {self.widths[-1]}, the last of widths"
            )
        least = 2 ** (len(self.widths) - 1) + 1
        if self.image_size < least:
            raise ModelError(
                f"image_size={self.image_size!r}: {len(self.widths) - 1} halvings need at "
                f"least {least}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassifierConfig:
        """Build from the entry ``network`` of config.json. Raises ModelError for unknown keys."""
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ModelError(f"unknown keys {unknown}; allowed: {sorted(cls.__dataclass_fields__)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for config.json."""
        return asdict(self) | {"widths": list(self.widths)}


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.GELU()
    )


def _strided(config: ClassifierConfig) -> nn.Sequential:
    layers = [_convolution(config.channels, config.widths[0], 1)]
    for before, after in zip(config.widths[:-1], config.widths[1:], strict=True):
        layers += [_convolution(before, before, 2), _convolution(before, after, 1)]
    last = config.widths[-1]
    return nn.Sequential(*layers, _convolution(last, last, 2))


def _rectified(inputs: int, outputs: int, *between: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
        *between,
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class _Block(nn.Module):
    """Convolution and 2x2 maximum, then a convolution with a skip connection."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = _rectified(inputs, outputs, nn.MaxPool2d(2))
        self.second = _rectified(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        found: Tensor = x + self.second(x)
        return found


def _whitened(config: ClassifierConfig) -> nn.Sequential:
    stem = nn.Conv2d(config.channels, config.widths[0], PATCH)
    stem.weight.requires_grad_(False)  # computed once from the data, not trained
    pairs = zip(config.widths[:-1], config.widths[1:], strict=True)
    blocks = [_Block(before, after) for before, after in pairs]
    return nn.Sequential(nn.Sequential(stem, nn.ReLU()), *blocks)


class Classifier(nn.Module):
    """Classifier of images in [-1, 1], (n, c, h, h), to logits (n, classes); ``features`` returns
    the penultimate layer."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.body = _strided(config) if config.kind == "strided" else _whitened(config)
        self.neck = (
            nn.Linear(config.widths[-1], config.features) if config.kind == "strided" else None
        )
        self.head = nn.Linear(config.features, config.classes)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate layer (n, features) of images ``x`` in [-1, 1]."""
        pooled: Tensor = self.body(x).mean(dim=(2, 3))
        return pooled if self.neck is None else nn.functional.gelu(self.neck(pooled))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits if self.neck is not None else LOGIT_SCALE * logits


def bundled_classifiers() -> dict[str, str]:
    """Map the distance name of each bundled feature network to its folder name:
    ``{"fd-mnist": "mnist"}``."""
    files = sorted((BUNDLED / "features").glob(f"*/{CONFIG}"))
    return {str(read_json(file).get("name", file.parent.name)): file.parent.name for file in files}


def classifier_folder(name_or_folder: str | Path) -> Path:
    """Return the folder of a bundled feature network (``mnist``) or of a path. Raises ModelError
    for other names."""
    bundled = BUNDLED / "features" / str(name_or_folder)
    if "/" not in str(name_or_folder) and (bundled / CONFIG).is_file():
        return bundled
    if (Path(name_or_folder) / CONFIG).is_file():
        return Path(name_or_folder)
    known = sorted(file.parent.name for file in (BUNDLED / "features").glob(f"*/{CONFIG}"))
    raise ModelError(
        f"no feature network {str(name_or_folder)!r}; bundled: {', '.join(known) or 'none'}; "
        f"or a folder with {CONFIG}"
    )


def load_classifier(name_or_folder: str | Path) -> tuple[Classifier, dict[str, Any], str]:
    """Return the network in evaluation mode and float32, its config.json, and the SHA-256 of its
    weight file. Raises ModelError."""
    folder = classifier_folder(name_or_folder)
    config = read_json(folder / CONFIG)
    if config.get("format") != FORMAT:
        raise ModelError(
            f"{str(folder / CONFIG)!r}: format {config.get('format')!r} is not known; "
            f"allowed: {FORMAT!r}"
        )
    if not isinstance(config.get("network"), dict):
        raise ModelError(f"{str(folder / CONFIG)!r} lacks 'network'")
    with torch.device("meta"):
        network = Classifier(ClassifierConfig.from_dict(config["network"]))
    tensors = read_weights(folder / WEIGHTS)
    check_tensors(network.state_dict(), tensors, folder / WEIGHTS)
    floats = {
        key: value.float() if value.is_floating_point() else value for key, value in tensors.items()
    }
    network.load_state_dict(floats, assign=True)
    digest = file_hash(folder / WEIGHTS)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False), config, digest

"""Feature extractors: a network that maps images to feature vectors, with the rules that its
statistics carry.

Images are uint8 (n, c, h, w), or floating point in [-1, 1] or in ``value_range=(low, high)``
(``grey_levels``). Distances of the bundled networks carry those networks' names, as in
``fd-mnist``; the name FID is reserved for InceptionV3, which is not bundled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...checks import instance, shown
from ...files import sha256
from ..errors import ScoreError
from .grey_levels import QUANTIZE, levels, one_of
from .moments import FeatureStats, Moments, Provenance
from .resizing import RESIZERS, network_input
from .value_range import Range, Values

#: device that a network runs on; None: the one it is on
Device = str | torch.device | None


def module_hash(network: nn.Module) -> str:
    """SHA-256 of a module's parameters and buffers, by name."""
    parts: list[Any] = []
    for key, value in sorted(network.state_dict().items()):
        host = value.detach().cpu()
        array = np.ascontiguousarray(
            host.float().numpy() if value.dtype == torch.bfloat16 else host.numpy()
        )
        parts += [f"{key} {value.dtype} {array.shape}", array]
    return sha256(*parts)


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """A feature network with the facts that its statistics must record to be comparable.

    Attributes:
        network: function from uint8 images (n, c, h, w) to features (n, q).
        name, digest: name that its distances carry, and the SHA-256 of its weights.
        shape: required image shape (c, h, w); None: any.
        resize: rule that resizes images to the network's size; ``none``: images of another size
            are refused.
        quantize: rule that rounds floating point images to grey levels.
        device: device that images are moved to; None: they stay.
    """

    network: Callable[[Tensor], Tensor]
    name: str
    digest: str
    shape: tuple[int, int, int] | None = None
    resize: str = "none"
    quantize: str = "round"
    device: torch.device | None = None

    def provenance(self, data: str | None = None, note: str | None = None) -> Provenance:
        """The provenance of statistics of these features."""
        return Provenance(
            data, f"{self.name} sha256:{self.digest}", self.resize, self.quantize, "float32", note
        )

    @torch.no_grad()
    def batches(self, images: Any, batch: int = 256, value_range: Range = None) -> Iterator[Tensor]:
        """Features of ``images`` (a tensor, an array, or an iterable of batches), (n, q) float32 on
        the CPU.

        ``value_range``: range (low, high) of floating point images; None: [-1, 1], and all values
        together must be consistent with it. Raises ScoreError for images that do not fit.
        """
        width: int | None = None
        for image, _ in levels(images, batch, self.quantize, value_range):
            if self.shape is not None and tuple(image.shape[1:]) != self.shape:
                raise ScoreError(
                    f"{self.name} takes images of {self.shape}, got {tuple(image.shape[1:])}"
                )
            if not len(image):
                continue
            found = (
                self.network(image if self.device is None else image.to(self.device)).float().cpu()
            )
            if found.ndim != 2 or len(found) != len(image) or width not in (None, found.shape[1]):
                raise ScoreError(
                    f"{self.name} gave {tuple(found.shape)} for {len(image)} images; it must give "
                    f"({len(image)}, q)"
                )
            if not bool(torch.isfinite(found).all()):
                raise ScoreError(f"{self.name} gave NaN or infinity")
            width = found.shape[1]
            yield found

    def features(self, images: Any, batch: int = 256, value_range: Range = None) -> Tensor:
        """All features, (n, q)."""
        found = list(self.batches(images, batch, value_range))
        if not found:
            raise ScoreError("no images")
        return torch.cat(found)

    def stats(
        self,
        images: Any,
        *,
        batch: int = 256,
        data: str | None = None,
        note: str | None = None,
        value_range: Range = None,
    ) -> FeatureStats:
        """Mean and covariance of all features, in one pass that keeps no features.

        ``data`` is the hash of the images (``storage.data_hash``). The provenance of uint8 images
        has no rounding rule.
        """
        parts, seen = Moments(), Values()
        for image, seen in levels(images, batch, self.quantize, value_range):  # noqa: B007 (the last one counts)
            for found in self.batches(image, batch):
                parts.update(found)
        made = self.provenance(data, note)
        return parts.stats(made if seen.count else replace(made, quantize=None))


def wrap_extractor(
    network: nn.Module,
    name: str,
    *,
    shape: tuple[int, int, int] | None = None,
    prepare: Callable[[Tensor], Tensor] | None = None,
    resize: str = "none",
    quantize: str = "round",
) -> FeatureExtractor:
    """Make a feature extractor from any module.

    Args:
        network: maps prepared images to features (n, q); must be in evaluation mode.
        name: of the extractor, recorded with its statistics.
        shape: image shape (c, h, w) that the network takes; None: any.
        prepare: maps images in 0..255 to the network's input; default ``x / 127.5 - 1`` in float32.
        resize: a rule of ``resizing``, which resizes images of any size to ``shape`` before
            ``prepare``; any other text only describes what ``prepare`` does.
        quantize: rule that rounds floating point images to grey levels.

    Raises ScoreError for a module in training mode and for a resize rule without a shape.
    """
    instance("network", network, nn.Module, "a torch.nn.Module")
    for what, text in (("name", name), ("resize", resize)):
        if not isinstance(text, str):
            raise ScoreError(f"{what}={shown(text)}: must be a text")
    one_of("quantize", quantize, QUANTIZE)
    if network.training:
        raise ScoreError(
            f"{name} is in training mode, where features depend on the batch: call eval() first"
        )
    first = next(iter(network.parameters()), None)
    device = None if first is None else first.device
    ready = to_signed if prepare is None else prepare
    if resize in RESIZERS:
        ready, shape = sized(ready, name, shape, resize), None
    return FeatureExtractor(
        lambda image: network(ready(image)),
        name,
        module_hash(network),
        shape,
        resize,
        quantize,
        device,
    )


def sized(
    ready: Callable[[Tensor], Tensor], name: str, shape: tuple[int, int, int] | None, rule: str
) -> Callable[[Tensor], Tensor]:
    """``ready`` after a resize to ``shape`` (c, h, w) by ``rule``. ScoreError without a shape."""
    if shape is None:
        raise ScoreError(
            f"{name}: the rule {rule!r} needs shape=(c, h, w), the shape after resizing"
        )
    channels, height, width = shape
    return lambda image: ready(
        network_input(image, channels, (height, width), rule).to(image.device)
    )


def to_signed(image: Tensor) -> Tensor:
    """0..255 to float32 in [-1, 1]."""
    return image.to(torch.float32) / 127.5 - 1.0


def placed(network: nn.Module, device: Device) -> torch.device:
    """Move ``network`` to ``device`` (None: leave it) and return the device it is on. ScoreError
    for an unavailable device."""
    try:
        if device is not None:
            network.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ScoreError(f"device={str(device)!r}: {str(error).splitlines()[0]}") from None
    return next(network.parameters()).device

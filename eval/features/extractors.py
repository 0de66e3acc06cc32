"""Images to feature vectors: bundled networks, known ones from local files, any ``nn.Module``, and
the rules written beside the numbers.

Images are uint8 (n, c, h, w), or float in [-1, 1], which become grey levels first, as a saved
picture would be: ``round`` is ``floor(clip(127.5 x + 128, 0, 255))`` (EDM's rule), ``floor`` is
``floor(clip(255 (x + 1) / 2, 0, 255))`` (that of score_sde). ``value_range=(low, high)`` says that
they lie in another range; without it, values that cannot be in [-1, 1] are refused
(``value_range``). Distances of the bundled networks carry those networks' names, as in
``fd-mnist``; the name FID belongs to one network only, which is not bundled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...checks import instance, shown, tensor, unknown
from ...files import sha256
from ...models.classifier import classifier_folder, load_classifier
from ...models.errors import ModelError
from ..errors import ScoreError
from ..metrics.matrices import at_least_one
from .moments import FeatureStats, Moments, Provenance
from .resizing import RESIZERS, check_rule, fitted
from .storage import load_stats
from .value_range import SIGNED, Range, Values, check_range

#: where a network runs; None: where it is
Device = str | torch.device | None

QUANTIZE = ("round", "floor")
SPLITS = ("train", "test")
#: extractors whose weights the user brings -> what follows the colon
KINDS = {"inception": "FILE", "dinov2": "FOLDER", "clip": "FOLDER"}


def to_uint8(image: Any, quantize: str = "round", value_range: Range = None) -> Tensor:
    """Grey levels of ``image`` (n, c, h, w): uint8 as it is, floating point from ``value_range``,
    by default [-1, 1]; values outside are clamped. One batch is not judged by its values, as a
    source is. Raises ScoreError for anything else."""
    _one_of("quantize", quantize, QUANTIZE)
    limits = check_range(value_range)
    given = image_batch(image)
    if given.dtype == torch.uint8:
        return given
    x = given.to(torch.float32)
    low, high = limits or SIGNED
    if (low, high) == SIGNED:
        level = 127.5 * x + 128.0 if quantize == "round" else 255.0 * (x + 1.0) / 2.0
    else:
        level = (x - low) * (255.0 / (high - low)) + (0.5 if quantize == "round" else 0.0)
    return level.clamp(0.0, 255.0).floor().to(torch.uint8)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise ScoreError unless ``value`` is one of ``allowed``."""
    if not isinstance(value, str) or value not in allowed:
        raise ScoreError(f"{name}={shown(value)}: allowed are {', '.join(allowed)}")


def image_batch(image: Any) -> Tensor:
    """``image`` as a tensor if it is a batch of images (n, c, h, w), uint8 or finite floating
    point. Raises ScoreError."""
    try:
        given = torch.as_tensor(image).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ScoreError(
            "images must be a tensor, an array or batches of them, got "
            f"{type(image).__name__}: {error}"
        ) from error
    tensor("images", given, floating=False, error=ScoreError)
    if given.ndim != 4 or not (given.dtype == torch.uint8 or given.is_floating_point()):
        raise ScoreError(
            f"images must be uint8 or floating point (n, c, h, w), got {given.dtype} "
            f"{tuple(given.shape)}"
        )
    if given.is_floating_point() and not bool(torch.isfinite(given).all()):
        bad = (~torch.isfinite(given)).flatten(1).any(dim=1).nonzero().flatten().tolist()
        raise ScoreError(f"{len(bad)} images hold NaN or infinity, first {bad[:5]}")
    return given


def levels(
    images: Any, batch: int, quantize: str, value_range: Any = None
) -> Iterator[tuple[Tensor, Values]]:
    """Batches of grey levels, uint8, each with the values of all images so far. Raises ScoreError
    at the end where these are in another convention than [-1, 1] (before the first batch where all
    images are in one tensor)."""
    limits = check_range(value_range)
    at_least_one("batch", batch)
    if hasattr(images, "shape"):
        whole = image_batch(images)
        Values.of(whole, limits).judge(limits)
        images = whole
    seen = Values()
    for piece in _pieces(images, batch):
        given = image_batch(piece)
        seen += Values.of(given, limits)
        yield to_uint8(given, quantize, limits), seen
    seen.judge(limits)
    if limits is not None and not seen.count:
        raise ScoreError(
            f"value_range={limits}: none of the images is floating point; uint8 images are 0..255"
        )


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
    """A network with what must be known to compare its numbers.

    Attributes:
        network: uint8 (n, c, h, w) to (n, q).
        name, digest: what its distances are called, and the SHA-256 of its weights.
        shape: (c, h, w) that it takes; None where any will do.
        resize: the rule by which images are brought to the network's size; ``none``: images of
            another size are refused.
        quantize: how floating point images become grey levels.
        device: where the images are sent; None: nowhere.
    """

    network: Callable[[Tensor], Tensor]
    name: str
    digest: str
    shape: tuple[int, int, int] | None = None
    resize: str = "none"
    quantize: str = "round"
    device: torch.device | None = None

    def provenance(self, data: str | None = None, note: str | None = None) -> Provenance:
        """What statistics of these features carry."""
        return Provenance(
            data, f"{self.name} sha256:{self.digest}", self.resize, self.quantize, "float32", note
        )

    @torch.no_grad()
    def batches(self, images: Any, batch: int = 256, value_range: Range = None) -> Iterator[Tensor]:
        """Features of ``images`` (a tensor, an array, or an iterable of batches), (n, q) float32 on
        the CPU. ``value_range``: the range of floating point images (low, high); None: [-1, 1],
        which all values together must agree with. ScoreError for bad input."""
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
                    f"{self.name} gave {tuple(found.shape)} for {len(image)} images: "
                    f"({len(image)}, q) is wanted"
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
        """Mean and covariance, in one pass that keeps nothing; ``data`` is the hash of the images
        (``storage.data_hash``). Images that are uint8 already have no rule of rounding."""
        parts, seen = Moments(), Values()
        for image, seen in levels(images, batch, self.quantize, value_range):  # noqa: B007 (the last one counts)
            for found in self.batches(image, batch):
                parts.update(found)
        made = self.provenance(data, note)
        return parts.stats(made if seen.count else replace(made, quantize=None))


def _pieces(images: Any, batch: int) -> Iterable[Any]:
    if not hasattr(images, "shape"):
        return (
            _refuse(images)
            if isinstance(images, str | bytes | Path | Mapping) or not isinstance(images, Iterable)
            else images
        )
    return [images[i : i + batch] for i in range(0, len(images), batch)]


def _refuse(images: Any) -> Iterable[Any]:
    files = "of files: `open_source(PATH).read(i, j).image`"
    raise ScoreError(
        f"images must be a tensor, an array or batches of them ({files}), got "
        f"{type(images).__name__}"
    )


def wrap_extractor(
    network: nn.Module,
    name: str,
    *,
    shape: tuple[int, int, int] | None = None,
    prepare: Callable[[Tensor], Tensor] | None = None,
    resize: str = "none",
    quantize: str = "round",
) -> FeatureExtractor:
    """Any module as an extractor. ``prepare`` makes its input from 0..255 (by default
    ``x / 127.5 - 1``, float32).

    With a rule of ``resizing`` in ``resize``, images of any size are brought to ``shape`` (c, h, w)
    before that; any other text there says what ``prepare`` does to the size. The module is used as
    it is: put it in evaluation mode first, ScoreError otherwise.
    """
    instance("network", network, nn.Module, "a torch.nn.Module")
    for what, text in (("name", name), ("resize", resize)):
        if not isinstance(text, str):
            raise ScoreError(f"{what}={shown(text)}: a text is wanted")
    _one_of("quantize", quantize, QUANTIZE)
    if network.training:
        raise ScoreError(
            f"{name} is in training mode, where features depend on the batch: call eval() first"
        )
    first = next(iter(network.parameters()), None)
    device = None if first is None else first.device
    ready = unit if prepare is None else prepare
    if resize in RESIZERS:
        ready, shape = _sized(ready, name, shape, resize), None
    return FeatureExtractor(
        lambda image: network(ready(image)),
        name,
        module_hash(network),
        shape,
        resize,
        quantize,
        device,
    )


def _sized(
    ready: Callable[[Tensor], Tensor], name: str, shape: tuple[int, int, int] | None, rule: str
) -> Callable[[Tensor], Tensor]:
    if shape is None:
        raise ScoreError(
            f"{name}: the rule {rule!r} wants the shape (c, h, w) that images are brought to"
        )
    channels, height, width = shape
    return lambda image: ready(fitted(image, channels, (height, width), rule).to(image.device))


def unit(image: Tensor) -> Tensor:
    """0..255 to float32 in [-1, 1]."""
    return image.to(torch.float32) / 127.5 - 1.0


def load_extractor(
    spec: str | Path,
    *,
    resize: str | None = None,
    quantize: str = "round",
    logits: bool = False,
    device: Device = None,
) -> FeatureExtractor:
    """The extractor that ``spec`` names; nothing is ever downloaded.

    ``mnist``: the bundled network; or the folder of a classifier made by
    ``fewstep.train.classifier``. ``inception:FILE``: the TensorFlow port of InceptionV3 (needs
    torch-fidelity); ``dinov2:FOLDER``, ``clip:FOLDER``: models as transformers saves them.
    ``resize`` is a rule of ``resizing``, which may also be written into the name, as in
    ``mnist@clean`` or ``inception@clean:FILE``; by default bundled networks refuse other sizes
    (``none``), Inception's rule is ``tf``, and the others do what their folder's processor says
    (``processor``). ``logits``: class logits instead, for ``inception_score``. ``device``: where
    the network runs; features come back to the CPU, and images may be anywhere. Raises ModelError
    (a ValueError) for what is not there, damaged, or needs a package that is not installed;
    ScoreError for a rule.
    """
    kind, name, rule = split_spec(spec)
    if rule is not None and resize is not None and rule != resize:
        raise ScoreError(f"{str(spec)!r} and resize={resize!r}: two rules")
    rule = resize if rule is None else rule
    if kind == "inception":
        from .inception import inception_extractor

        return inception_extractor(name, rule or "tf", quantize, logits, device)
    if kind is not None:
        from .vision_transformers import vision_extractor

        return vision_extractor(kind, name, rule or "processor", quantize, logits, device)
    return _classifier(name, check_rule(rule or "none", ("none",)), quantize, logits, device)


def split_spec(spec: str | Path) -> tuple[str | None, str, str | None]:
    """``kind@rule:path``, ``name@rule`` or a path: kind (None: a network of ours), name or path,
    and rule. ModelError for another kind."""
    text = str(spec)
    if isinstance(spec, Path) or Path(text).exists():
        return None, text, None
    head, colon, path = text.partition(":")
    name, at, rule = head.partition("@")
    if (colon or name in KINDS) and name not in KINDS:
        raise ModelError(
            f"{unknown('kind of extractor', name, KINDS)}; or a bundled network, or a folder"
        )
    if name in KINDS and not path:
        raise ModelError(
            f"{name!r} is not bundled and never downloaded: give its weights, as in "
            f"'{name}:{KINDS[name]}'"
        )
    return (name, path, rule if at else None) if colon else (None, name, rule if at else None)


def _classifier(
    name: str, rule: str, quantize: str, logits: bool, device: Device
) -> FeatureExtractor:
    network, config, digest = load_classifier(name)
    where = placed(network, device)
    size = network.config.image_size
    shape = (network.config.channels, size, size)
    known = str(config.get("name", "classifier")) + ("-logits" if logits else "")
    ready = unit if rule == "none" else _sized(unit, known, shape, rule)
    compute = _channels_last(network.forward if logits else network.features, ready)
    return FeatureExtractor(
        compute, known, digest, shape if rule == "none" else None, rule, quantize, where
    )


def placed(network: nn.Module, device: Device) -> torch.device:
    """``network`` on ``device`` (None: where it is), and that device. ScoreError where there is
    none of that name."""
    try:
        if device is not None:
            network.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ScoreError(f"device={str(device)!r}: {str(error).splitlines()[0]}") from None
    return next(network.parameters()).device


def _channels_last(
    compute: Callable[[Tensor], Tensor], ready: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    return lambda image: compute(ready(image).contiguous(memory_format=torch.channels_last))


def bundled_stats(name: str, split: str = "train") -> FeatureStats:
    """Statistics of a bundled network's own data set: ``bundled_stats("mnist", "train")``.
    ScoreError for another split."""
    _one_of("split", split, SPLITS)
    return load_stats(classifier_folder(name) / f"{split}.safetensors")

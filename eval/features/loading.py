"""Feature extractors by name: bundled networks, and known ones from local files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ...checks import unknown
from ...models.classifier import classifier_folder, load_classifier
from ...models.errors import ModelError
from ..errors import ScoreError
from .extractors import Device, FeatureExtractor, placed, sized, to_signed
from .grey_levels import one_of
from .moments import FeatureStats
from .resizing import check_rule
from .storage import load_stats

SPLITS = ("train", "test")


#: extractors with weights of the user: name -> what follows the colon in the spec
KINDS = {"inception": "FILE", "dinov2": "FOLDER", "clip": "FOLDER"}


def load_extractor(
    spec: str | Path,
    *,
    resize: str | None = None,
    quantize: str = "round",
    logits: bool = False,
    device: Device = None,
) -> FeatureExtractor:
    """Load a feature extractor by name; nothing is ever downloaded.

    Args:
        spec: ``mnist`` (bundled); the folder of a classifier made by ``fewstep.train.classifier``;
            ``inception:FILE``, the TensorFlow port of InceptionV3 (needs torch-fidelity); or
            ``dinov2:FOLDER``, ``clip:FOLDER``, models as transformers saves them. A resize rule may
            be part of the name, as in ``mnist@clean`` or ``inception@clean:FILE``.
        resize: a rule of ``resizing``. Default: bundled networks refuse images of another size
            (``none``), Inception uses ``tf``, the others their folder's processor (``processor``).
        quantize: rule that rounds floating point images to grey levels.
        logits: return class logits instead of features, for ``inception_score``.
        device: where the network runs; images may be on any device, features are on the CPU.

    Raises ModelError (a ValueError) for weights that are missing or damaged, or need a package that
    is not installed; ScoreError for an unknown or contradictory rule.
    """
    kind, name, rule = split_spec(spec)
    if rule is not None and resize is not None and rule != resize:
        raise ScoreError(f"{str(spec)!r} and resize={resize!r} name two rules: give one")
    rule = resize if rule is None else rule
    if kind == "inception":
        from .inception import inception_extractor

        return inception_extractor(name, rule or "tf", quantize, logits, device)
    if kind is not None:
        from .vision_transformers import vision_extractor

        return vision_extractor(kind, name, rule or "processor", quantize, logits, device)
    return _classifier(name, check_rule(rule or "none", ("none",)), quantize, logits, device)


def split_spec(spec: str | Path) -> tuple[str | None, str, str | None]:
    """Split ``kind@rule:path``, ``name@rule`` or a path into kind (None: a classifier of fewstep),
    name or path, and rule. ModelError for an unknown kind."""
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
    ready = to_signed if rule == "none" else sized(to_signed, known, shape, rule)
    compute = _channels_last(network.forward if logits else network.features, ready)
    return FeatureExtractor(
        compute, known, digest, shape if rule == "none" else None, rule, quantize, where
    )


def _channels_last(
    compute: Callable[[Tensor], Tensor], ready: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    return lambda image: compute(ready(image).contiguous(memory_format=torch.channels_last))


def bundled_stats(name: str, split: str = "train") -> FeatureStats:
    """Statistics of the data set that a bundled network was trained on:
    ``bundled_stats("mnist", "train")``. ScoreError for an unknown split."""
    one_of("split", split, SPLITS)
    return load_stats(classifier_folder(name) / f"{split}.safetensors")

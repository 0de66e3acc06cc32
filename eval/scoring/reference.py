"""References of a score: statistics with optional features, bundled ones by name, others from
files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...checks import unknown
from ...models.classifier import bundled_classifiers, classifier_folder
from ...models.weights import BUNDLED, CONFIG
from ..errors import ScoreError
from ..features.loading import SPLITS
from ..features.moments import FeatureStats
from ..features.storage import SUFFIXES, load_features, load_stats


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Statistics of a data set, with the features (n, q) of all or some of its samples (None:
    moments only)."""

    stats: FeatureStats
    features: Tensor | None = None
    name: str = "reference"


def bundled_references() -> tuple[str, ...]:
    """Names of the bundled references: ``mnist:train``, ``mnist:test``."""
    folders = sorted(file.parent for file in (BUNDLED / "features").glob(f"*/{CONFIG}"))
    return tuple(
        f"{folder.name}:{split}"
        for folder in folders
        for split in SPLITS
        if (folder / f"{split}.safetensors").is_file()
    )


def load_reference(name_or_file: str | Path) -> FeatureSet:
    """Load a bundled reference (``mnist:train``), or a file of ``fewstep ref`` or ``save_stats``.
    ScoreError for anything else."""
    text = str(name_or_file)
    if text in bundled_references():
        name, _, split = text.partition(":")
        path = classifier_folder(name) / f"{split}.safetensors"
    elif Path(text).suffix in SUFFIXES:
        path = Path(text)
    else:
        files = " or ".join(SUFFIXES)
        raise ScoreError(
            f"{unknown('reference', text, bundled_references())}; or a {files} file that "
            "`fewstep ref` made"
        )
    stats, features = load_stats(path), load_features(path)
    if features is not None and features.shape[1] != stats.dim:
        raise ScoreError(
            f"{str(path)!r}: features {tuple(features.shape)} beside statistics of "
            f"{stats.dim} dimensions"
        )
    return FeatureSet(stats, features, text)


def extractor_of(stats: FeatureStats) -> str | None:
    """The ``load_extractor`` name (with the resize rule) of the bundled network that made the
    statistics; None for another network."""
    name = bundled_classifiers().get((stats.provenance.extractor or "").partition(" ")[0])
    return (
        name
        if name is None or stats.provenance.resize in (None, "none")
        else f"{name}@{stats.provenance.resize}"
    )

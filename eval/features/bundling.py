"""Write the reference statistics of a bundled feature network into its folder.

    python -m fewstep.eval.features.bundling mnist --train mnist_train.npz --test mnist_test.npz

Each npz file holds ``image`` uint8 (n, h, w[, c]), or ``jpeg`` and ``offset`` (``image_files``);
folders of pictures are read too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from ...models.classifier import classifier_folder
from ..errors import ScoreError
from ..metrics.frechet import frechet_distance
from ..scoring.features import chosen_places
from .image_sources import open_source
from .loading import load_extractor
from .moments import FeatureStats
from .storage import data_hash, save_stats

#: training images whose features are kept in a bundled reference
KEPT = 2000


def read_images(path: str | Path) -> Tensor:
    """All images of a folder or an npz file, uint8 (n, c, h, w). Raises ScoreError, also where a
    single image cannot be read."""
    source = open_source(path)
    found = source.read(0, source.count)
    if found.bad:
        raise ScoreError(f"{found.bad[0].name!r} cannot be read: {found.bad[0].why}")
    return found.image


def bundle(name: str, train: str | Path, test: str | Path) -> float:
    """Write train.safetensors and test.safetensors into the network's folder and return the Frechet
    distance between them.

    The training file also keeps the features of ``KEPT`` images, which kernel and neighbour metrics
    need.
    """
    extractor = load_extractor(name)
    made: list[FeatureStats] = []
    for split, path in (("train", train), ("test", test)):
        image = read_images(path)
        made.append(extractor.stats(image, data=data_hash(image), note=f"{name} {split}"))
        some = image[chosen_places(torch.arange(len(image)), KEPT)] if split == "train" else None
        kept = None if some is None else extractor.features(some)
        save_stats(made[-1], classifier_folder(name) / f"{split}.safetensors", kept)
    return frechet_distance(*made)


def main(argv: list[str] | None = None) -> int:
    """Write the files and print the distance between the two splits on stderr; returns the exit
    code."""
    form = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser(
        prog="python -m fewstep.eval.features.bundling", description=__doc__, formatter_class=form
    )
    p.add_argument("name")
    p.add_argument("--train", required=True)
    p.add_argument("--test", required=True)
    args = p.parse_args(argv)
    try:
        distance = bundle(args.name, args.train, args.test)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    sys.stderr.write(f"train against test: {distance:.5f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

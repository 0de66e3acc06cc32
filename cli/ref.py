"""Make reference statistics: mean and covariance of the features of a data set, and their origin.

    fewstep ref photos --extractor mnist --out photos.safetensors
    fewstep ref train.npz --extractor mnist --features --out train.safetensors

The source is a folder of pictures (sub-folders too), one or several npz files with `image` uint8
(n, h, w[, c]) or with `jpeg` and `offset`, or a folder of `fewstep generate`. The file carries the
hash of the images, the network's name and hash, the resize rule, count and dtype; with --features
also the features that kid, precision, recall, density, coverage, cmmd and memorization need.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..files import dumps
from .arguments import add_batch, add_config, add_device, add_images
from .progress import BlockProgress
from .settings import defaults_of, resolve

HELP = "make reference statistics of a data set"


def add_arguments(p: argparse.ArgumentParser) -> None:
    """The arguments of ``fewstep ref``."""
    p.add_argument("source", nargs="?", help="a folder of pictures or npz files, or an npz file")
    p.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="a .safetensors or .npz file"
    )
    p.add_argument(
        "--extractor", help="the feature network: mnist, inception:FILE, ... (docs/features.md)"
    )
    p.add_argument(
        "--features",
        action="store_true",
        default=None,
        help="keep the features too, of at most --keep images",
    )
    p.add_argument(
        "--keep",
        type=int,
        help="with --features: of a random subset of so many images where there are more (default "
        "50000)",
    )
    add_batch(p, "images in a block (default 64)")
    add_images(p)
    p.add_argument(
        "--note", help="a word about the data, kept in the file (default: the source's name)"
    )
    add_device(p)
    add_config(p, "print what the file holds")


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ..jobs import reference

    defaults = {"source": None, **defaults_of(reference, "progress")}
    settings = resolve(args, defaults)
    with BlockProgress() as progress:
        made = reference(settings.pop("source"), args.out, progress=progress, **settings)
    if made is None:
        return 0  # not the first process
    if args.json:
        print(dumps(made.record()), end="")
        return 0
    kept = f", {made.features} of them with features" if made.features else ""
    print(
        f"{made.stats.count} images of {made.images.name}{kept}, {made.stats.dim} dimensions "
        f"of {made.stats.provenance.extractor}"
    )
    if made.images.skipped:
        print(f"{len(made.images.skipped)} images could not be read and are left out")
    for line in made.images.notes():
        print(line)
    print(f"statistics: {args.out}")
    return 0

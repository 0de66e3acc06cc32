"""Make reference statistics: mean and covariance of the features of a data set, with what they were
made of.

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
from .progress import block_progress
from .score import VALUE_RANGE
from .settings import defaults_of, resolve

HELP = "make reference statistics of a data set"


def add_arguments(p: argparse.ArgumentParser) -> None:
    """The flags; a flag that is not given is None, so that a --config file can speak."""
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
    p.add_argument("--batch", type=int, help="images in a block (default 64)")
    p.add_argument(
        "--skip-corrupt",
        action="store_true",
        default=None,
        help="leave out images that cannot be read, and count them",
    )
    p.add_argument("--value-range", metavar="=LOW,HIGH", help=VALUE_RANGE)
    p.add_argument(
        "--note", help="a word about the data, kept in the file (default: the source's name)"
    )
    p.add_argument("--device", help="where the network runs (default: a GPU if there is one)")
    p.add_argument("--config", type=Path, help="YAML file of these settings; flags override it")
    p.add_argument("--json", action="store_true", help="print what the file carries")


def execute(args: argparse.Namespace) -> int:
    """The command."""
    from ..jobs import reference

    defaults = {"source": None, **defaults_of(reference, "progress")}
    settings = resolve(args, defaults)
    made = reference(settings.pop("source"), args.out, progress=block_progress(), **settings)
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

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
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..checks import ArgumentError
from ..files import dumps, write
from .score import VALUE_RANGE
from .settings import resolve

HELP = "make reference statistics of a data set"

DEFAULTS: dict[str, Any] = {
    "source": None,
    "extractor": None,
    "features": False,
    "keep": 50_000,
    "batch": 64,
    "skip_corrupt": False,
    "value_range": None,
    "note": None,
    "device": "auto",
}


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
    settings = resolve(args, DEFAULTS)
    made = make(settings, args.out)
    if made is None:
        return 0  # not the main process
    record, said = made
    write(args.out.with_name(args.out.name + ".settings.json"), dumps(settings).encode())
    if args.json:
        print(dumps(record), end="")
        return 0
    kept = f", {record['features']} of them with features" if record["features"] else ""
    print(
        f"{record['count']} images of {settings['source']}{kept}, {record['dim']} dimensions "
        f"of {record['provenance']['extractor']}"
    )
    if record["skipped"]:
        print(f"{len(record['skipped'])} images could not be read and are left out")
    for line in said:
        print(line)
    print(f"statistics: {args.out}")
    return 0


def make(settings: Mapping[str, Any], out: Path) -> tuple[dict[str, Any], list[str]] | None:
    """Write the file; what it carries, and what is to be said of the images. None in a process that
    is not the main one."""
    from ..eval.features.loading import load_extractor
    from ..eval.features.storage import SUFFIXES, save_stats
    from .generate import device_named, positive, progress
    from .score import check_shape, notes, refuse_corrupt, rules
    from .score_sources import samples_of
    from .score_work import clear, collect, idle, open_work

    if out.suffix not in SUFFIXES:
        raise ArgumentError(f"--out {str(out)!r}: allowed are {' and '.join(SUFFIXES)} files")
    if not out.parent.is_dir():
        raise ArgumentError(f"--out {str(out)!r}: there is no folder {str(out.parent)!r}")
    if settings["source"] is None:
        raise ArgumentError("give a folder or an npz file of images")
    if settings["extractor"] is None:
        raise ArgumentError("--extractor is wanted: the feature network, for instance mnist")
    samples, keep = samples_of(settings["source"], settings), positive("keep", settings["keep"])
    network = load_extractor(settings["extractor"], device=device_named(str(settings["device"])))
    check_shape(samples, network)
    if idle(samples):
        return None
    work = open_work(None, {**samples.identity(), **rules(network), "for": "ref"})
    found = collect(
        samples, network, None, work, keep if settings["features"] else 1, progress(samples.blocks)
    )
    if found is None:
        return None
    refuse_corrupt(found, samples, bool(settings["skip_corrupt"]))
    provenance = network.provenance(found.data, settings["note"] or Path(samples.name).name)
    made = found.collected.stats(replace(provenance, quantize=samples.quantize))
    features = found.collected.features() if settings["features"] else None
    save_stats(made, out, features)
    clear(work)
    skipped = [{"file": one.name, "why": one.why} for one in found.bad]
    kept = 0 if features is None else len(features)
    record = {
        "count": made.count,
        "dim": made.dim,
        "features": kept,
        "provenance": asdict(made.provenance),
        "skipped": skipped,
    }
    record |= {
        "values": found.values.to_dict(samples.value_range),
        "left_out": samples.left_out.to_dict(),
    }
    return record, notes(found, samples)

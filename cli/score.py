"""Score images against a reference: a folder (pictures, npz files, or what `fewstep generate`
wrote), or a model as it draws; or physical fields by their equation.

    fewstep score samples/demo
    fewstep score digits --ref mnist:test --metrics fd,is --json
    fewstep score --model mnist --sampler unipc --nfe 8 --seeds 0-1999
    fewstep score photos --ref photos.safetensors --metrics fd,kid,precision,recall --out
        photos-score
    accelerate launch -m fewstep score digits
    fewstep score --physics darcy samples --data 256

The default reference of images drawn by a bundled model is its training set (`mnist:train`).
Distances carry the name of the feature network, as in FD-mnist. Several processes, as started by
accelerate, torchrun or mpirun, share the blocks of --batch images; the result is the same for any
number of them. If the command is stopped, run it again to go on; with --out the features are kept,
and other metrics of the same images are quick.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import dumps
from ..files.listing import printable
from .arguments import add_config, add_drawing, add_images
from .options import job_options, read_options
from .progress import BlockProgress
from .score_physics import add_physics, asked, execute_physics
from .settings import defaults_of, resolve

if TYPE_CHECKING:
    from ..jobs import ScoringResult

#: printed for samples whose labels are evenly distributed
BALANCED = (
    "the classes are evenly distributed: with few samples this lowers the distance, compared with "
    "independent labels (`--labels random`)"
)
HELP = "score images, or a model, against a reference, or fields by their equation"


def add_arguments(p: argparse.ArgumentParser) -> None:
    """The arguments of ``fewstep score``."""
    p.add_argument(
        "source",
        nargs="?",
        help="a folder of pictures or npz files, an npz file, or a folder of `fewstep generate`",
    )
    _add_reference(p)
    _add_numbers(p)
    add_images(p)
    p.add_argument(
        "--allow-mismatch",
        action="store_true",
        default=None,
        help="compare with statistics of another network or resize rule",
    )
    p.add_argument("--out", type=Path, help="a folder to keep features, settings and score in")
    add_drawing(p, "0-1999", "random")
    add_physics(p)
    add_config(p, "print everything as JSON")


def _add_reference(p: argparse.ArgumentParser) -> None:
    """What is compared with what."""
    p.add_argument(
        "--ref",
        help="NAME:train or NAME:test (bundled), or a file of `fewstep ref` (default: the "
        "training set of the model)",
    )
    p.add_argument(
        "--metrics",
        help="separated by commas, such as fd,kid,precision,recall (default fd); an unknown name "
        "lists all of them",
    )
    p.add_argument(
        "--extractor", help="the feature network, as for `fewstep ref` (default: the reference's)"
    )
    p.add_argument(
        "--held-out", help="a file of `fewstep ref --features` that calibrates memorization"
    )


def _add_numbers(p: argparse.ArgumentParser) -> None:
    """Intervals and numbers of samples."""
    p.add_argument("--level", type=float, help="of the intervals (default 0.95)")
    p.add_argument(
        "--resamples",
        type=int,
        help="of the bootstrap of fd; 0: none (default 200, above 256 dimensions 20)",
    )
    p.add_argument("--seed", type=int, help="of resamples and subsets (default 0)")
    p.add_argument(
        "--keep", type=int, help="keep the features of at most so many samples (default 50000)"
    )
    p.add_argument(
        "--pairs",
        type=int,
        help="at most so many samples where all pairs are formed (default 10000)",
    )


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ..jobs import score

    defaults = {"option": {}, **defaults_of(score, "progress", "out")}
    if asked(args):
        return execute_physics(args, defaults)
    read_options(args)
    settings = resolve(args, defaults)
    options = job_options(settings.pop("option"), score)
    with BlockProgress() as progress:
        result = score(out=args.out, progress=progress, **settings, **options)
    if result is None:
        return 0  # not the first process
    print(dumps(result.record()) if args.json else text(result), end="" if args.json else "\n")
    return 0


def text(result: ScoringResult) -> str:
    """The result for people: a sentence, the notes, the table."""
    from .score_table import table

    scores, images = result.scores, result.images
    extractor = (scores.generated.extractor or "").partition(" ")[0]
    against = f" against {scores.reference}" if scores.reference is not None else ""
    lines = [f"{scores.count} images of {images.name}{against}, features of {extractor}"]
    if images.skipped:
        lines.append(
            f"{len(images.skipped)} images could not be read and are left out: "
            f"{', '.join(printable(one.name) for one in images.skipped[:5])}"
        )
    lines += [*result.reason.splitlines(), *images.notes()]
    lines.append(table(scores))
    if images.balanced and scores.reference is not None:
        lines.append(BALANCED)
    return "\n".join(lines)

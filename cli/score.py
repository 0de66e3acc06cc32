"""Score images against a reference: a folder (pictures, npz files, or what `fewstep generate`
wrote), or a model as it draws.

    fewstep score samples/demo
    fewstep score digits --ref mnist:test --metrics fd,is --json
    fewstep score --model mnist --sampler unipc --nfe 8 --seeds 0-1999
    fewstep score photos --ref photos.safetensors --metrics fd,kid,precision,recall --out
        photos-score
    accelerate launch -m fewstep score digits

The reference of images that a bundled model drew is by default the training set of that model
(`mnist:train`); distances carry the name of the network that they are measured with, FD-mnist.
Several processes, as accelerate, torchrun or mpirun start them, share the blocks of --batch images;
the result is the same for any number of them. Run again after a stop, the same command goes on
where it was; with --out the features stay, and other metrics of the same images are quick.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError
from ..files import dumps, write
from ..files.listing import printable
from .generate import DEFAULTS as DRAWING_DEFAULTS
from .generate import device_named, drawing_arguments, positive, progress
from .options import parse_options
from .settings import resolve

if TYPE_CHECKING:
    from ..eval.features.extractors import FeatureExtractor
    from ..eval.scoring.ratings import RatingOptions
    from ..eval.scoring.reference import FeatureSet
    from ..eval.scoring.scores import Scores
    from .score_sources import Samples
    from .score_work import Found

#: said of samples whose labels were dealt out evenly
BALANCED = (
    "the classes are dealt out evenly: few such samples come nearer to the reference than "
    "independent ones (`--labels random`)"
)
VALUE_RANGE = (
    "black and white in floating point npy files, such as --value-range=0,1 or =0,255 (default: "
    "-1,1, and they are checked)"
)
HELP = "score images, or a model, against a reference"

DEFAULTS: dict[str, Any] = {
    "source": None,
    **{key: value for key, value in DRAWING_DEFAULTS.items() if key != "format"},
    "model": None,
    "seeds": "0-1999",
    "labels": "random",
    "ref": None,
    "extractor": None,
    "metrics": "fd",
    "held_out": None,
    "level": 0.95,
    "resamples": None,
    "seed": 0,
    "keep": 50_000,
    "pairs": 10_000,
    "skip_corrupt": False,
    "value_range": None,
    "allow_mismatch": False,
}


def add_arguments(p: argparse.ArgumentParser) -> None:
    """The flags; a flag that is not given is None, so that a --config file can speak."""
    p.add_argument(
        "source",
        nargs="?",
        help="a folder of pictures or npz files, an npz file, or a folder of `fewstep generate`",
    )
    p.add_argument(
        "--ref",
        help="NAME:train or NAME:test (bundled), or a file of `fewstep ref` (default: the "
        "training set of the model)",
    )
    p.add_argument(
        "--metrics",
        help="of fd, fd_infinity, kid, is, precision, recall, density, coverage, cmmd, "
        "memorization (default fd)",
    )
    p.add_argument(
        "--extractor", help="the feature network, as for `fewstep ref` (default: the reference's)"
    )
    p.add_argument(
        "--held-out", help="a file of `fewstep ref --features` that calibrates memorization"
    )
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
    p.add_argument(
        "--skip-corrupt",
        action="store_true",
        default=None,
        help="leave out images that cannot be read, and count them",
    )
    p.add_argument("--value-range", metavar="=LOW,HIGH", help=VALUE_RANGE)
    p.add_argument(
        "--allow-mismatch",
        action="store_true",
        default=None,
        help="compare with statistics of another network or resize rule",
    )
    p.add_argument("--out", type=Path, help="a folder to keep features, settings and score in")
    drawing_arguments(p, "0-1999", "random")
    p.add_argument("--config", type=Path, help="YAML file of these settings; flags override it")
    p.add_argument("--json", action="store_true", help="print everything as JSON")


def execute(args: argparse.Namespace) -> int:
    """The command."""
    from ..eval.errors import ProvenanceError

    args.option = parse_options(args.option) if args.option else None
    settings = resolve(args, DEFAULTS)
    try:
        made = run(settings, args.out)
    except ProvenanceError as error:
        raise ArgumentError(
            f"{str(error).partition('; strict=')[0]}; --allow-mismatch compares them all the same"
        ) from error
    if made is None:
        return 0  # not the main process
    record, text = made
    if args.out is not None:
        write(args.out / "settings.json", dumps(settings).encode())
        write(args.out / "score.json", dumps(record).encode())
    print(dumps(record) if args.json else text, end="" if args.json else "\n")
    return 0


def run(settings: Mapping[str, Any], out: Path | None) -> tuple[dict[str, Any], str] | None:
    """Check, collect, rate: the record and the table; None in a process that is not the main
    one."""
    from ..eval.scoring.ratings import METRICS
    from ..eval.scoring.scores import check_request, extractors, metric_names, rate
    from .score_sources import samples_of
    from .score_work import clear, collect, idle, open_work

    metrics, options, keep = (
        metric_names(settings["metrics"]),
        _options(settings),
        positive("keep", settings["keep"]),
    )
    samples = samples_of(settings["source"], settings)
    reference = _reference(
        settings, samples, needed=any(METRICS[name].reference for name in metrics)
    )
    network, logits = extractors(
        _extractor(settings, samples),
        reference,
        "is" in metrics,
        device=device_named(str(settings["device"])),
    )
    check_request(
        metrics,
        reference,
        samples.count,
        replace(network.provenance(), quantize=samples.quantize),
        options.strict,
    )
    held_out = _held_out(settings, reference)
    check_shape(samples, network)
    if idle(samples):
        return None
    if out is not None and ((out / "blocks").exists() or (out / "manifest.json").exists()):
        raise ArgumentError(
            f"--out {str(out)!r} is a folder of `fewstep generate`, whose settings.json must "
            "stay: give another --out"
        )
    work = open_work(out, {**samples.identity(), **rules(network)})
    found = collect(samples, network, logits, work, keep, progress(samples.blocks))
    if found is None:
        return None
    refuse_corrupt(found, samples, bool(settings["skip_corrupt"]))
    made = replace(network.provenance(found.data, samples.name), quantize=samples.quantize)
    scores = rate(
        found.collected, reference, metrics, provenance=made, held_out=held_out, options=options
    )
    clear(work)
    return _record(scores, samples, found, settings), _text(scores, samples, found)


def _options(settings: Mapping[str, Any]) -> RatingOptions:
    from ..eval.scoring.ratings import RatingOptions

    names = ("level", "resamples", "seed", "pairs")
    return RatingOptions(
        **{name: settings[name] for name in names}, strict=not settings["allow_mismatch"]
    )


def _reference(settings: Mapping[str, Any], samples: Samples, *, needed: bool) -> FeatureSet | None:
    """What --ref names, else the training set of the model that drew the images; None where no
    metric needs one and none is named."""
    from ..eval.scoring.reference import bundled_references, load_reference

    if settings["ref"] is not None:
        return load_reference(settings["ref"])
    name = f"{samples.model}:train"
    if name in bundled_references():
        return load_reference(name)
    if not needed:
        return None
    where = (
        f"of the model {samples.model!r} none is bundled"
        if samples.model
        else f"{samples.name!r} does not say which model drew it"
    )
    raise ArgumentError(
        f"no reference: {where}; give --ref: {', '.join(bundled_references())}, or a file of "
        "`fewstep ref`"
    )


def _extractor(settings: Mapping[str, Any], samples: Samples) -> str | None:
    """What --extractor names; without a reference, the bundled network of the model."""
    from ..eval.scoring.reference import bundled_references

    if settings["extractor"] is not None:
        return str(settings["extractor"])
    known = settings["ref"] is None and f"{samples.model}:train" in bundled_references()
    return samples.model if known else None


def _held_out(settings: Mapping[str, Any], reference: FeatureSet | None) -> Any:
    from ..eval.scoring.reference import load_reference

    if settings["held_out"] is None:
        return None
    found = load_reference(settings["held_out"])
    if found.features is None:
        raise ArgumentError(
            f"--held-out {settings['held_out']!r} holds moments only: make it with `fewstep "
            "ref DATA --features --out FILE`"
        )
    if reference is not None and not settings["allow_mismatch"]:
        reference.stats.provenance.check(found.stats.provenance)
    return found.features


def check_shape(samples: Samples, network: FeatureExtractor) -> None:
    """Refuse images that the network cannot take, before anything is computed."""
    shape = getattr(getattr(samples, "source", None), "shape", None) or getattr(
        getattr(samples, "drawing", None), "shape", None
    )
    if (
        network.shape is not None
        and network.resize == "none"
        and shape is not None
        and tuple(shape) != tuple(network.shape)
    ):
        raise ArgumentError(
            f"{network.name} takes images of {tuple(network.shape)}, those of "
            f"{samples.name!r} are {tuple(shape)}"
        )


def rules(network: FeatureExtractor) -> dict[str, Any]:
    """What decides the features beside the images."""
    from .. import __version__

    made = asdict(network.provenance())
    return {
        **{key: made[key] for key in ("extractor", "resize", "quantize", "dtype")},
        "fewstep": __version__,
    }


def refuse_corrupt(found: Found, samples: Samples, skip: bool) -> None:
    """Name the images that cannot be read, unless they are to be left out."""
    if found.bad and not skip:
        named = "; ".join(f"{printable(one.name)}: {one.why}" for one in found.bad[:5])
        more = f" (and {len(found.bad) - 5} more)" if len(found.bad) > 5 else ""
        raise ArgumentError(
            f"{len(found.bad)} of {samples.count} images cannot be read: {named}{more}; "
            "--skip-corrupt leaves them out"
        )


def notes(found: Found, samples: Samples) -> list[str]:
    """What a reader must know of the images: values that were clamped, files that are no data."""
    return [
        text for text in (found.values.text(samples.value_range), samples.left_out.text()) if text
    ]


def _record(
    scores: Scores, samples: Samples, found: Found, settings: Mapping[str, Any]
) -> dict[str, Any]:
    from .score_table import title

    record = scores.to_dict()
    for name, rating in record["metrics"].items():
        rating["name"] = title(name, scores.generated)
    skipped = [{"file": one.name, "why": one.why} for one in found.bad]
    facts = {"source": samples.name, "model": samples.model, "balanced_classes": samples.balanced}
    seen = {
        "values": found.values.to_dict(samples.value_range),
        "skipped": skipped,
        "left_out": samples.left_out.to_dict(),
    }
    return {**facts, **record, **seen, "settings": dict(settings)}


def _text(scores: Scores, samples: Samples, found: Found) -> str:
    from .score_table import table

    extractor = (scores.generated.extractor or "").partition(" ")[0]
    against = f" against {scores.reference}" if scores.reference is not None else ""
    lines = [f"{scores.count} images of {samples.name}{against}, features of {extractor}"]
    if found.bad:
        lines.append(
            f"{len(found.bad)} images could not be read and are left out: "
            f"{', '.join(printable(one.name) for one in found.bad[:5])}"
        )
    lines += notes(found, samples)
    lines.append(table(scores))
    if samples.balanced and scores.reference is not None:
        lines.append(BALANCED)
    return "\n".join(lines)

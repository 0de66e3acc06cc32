"""Reference statistics of a data set: mean and covariance of the features of its images, with where
they come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError
from ..files import dumps, write
from .devices import device_named
from .images import ImageFacts, check_shape, feature_rules, provenance_of, refuse_corrupt
from .settings import checked

if TYPE_CHECKING:
    from ..eval.features.moments import FeatureStats


@dataclass(frozen=True, eq=False)
class ReferenceResult:
    """Result of ``reference``.

    Attributes:
        file: the file that was written.
        stats: count, mean and covariance of the features, and their provenance.
        features: number of samples whose features the file holds.
        images: what is known of the images.
    """

    file: Path
    stats: FeatureStats
    features: int
    images: ImageFacts

    def record(self) -> dict[str, Any]:
        """What the file holds, for JSON."""
        return {
            "count": self.stats.count,
            "dim": self.stats.dim,
            "features": self.features,
            "provenance": asdict(self.stats.provenance),
            "skipped": self.images.skipped_record(),
            "values": self.images.values_record(),
            "left_out": self.images.left_out.to_dict(),
        }


def reference(
    source: str | Path | None,
    out: str | Path,
    *,
    extractor: str | Path | None = None,
    features: bool = False,
    keep: int = 50_000,
    batch: int = 64,
    skip_corrupt: bool = False,
    value_range: str | tuple[float, float] | None = None,
    note: str | None = None,
    device: Any = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> ReferenceResult | None:
    """Make reference statistics; a second call goes on where the first one stopped.

    Example::

        fewstep.jobs.reference("photos", "photos.safetensors", extractor="mnist", features=True)
        fewstep.jobs.score("drawn", ref="photos.safetensors", metrics="fd,kid")

    Args:
        source: a folder of pictures (sub-folders too) or npz files, an npz file, or a folder of
            ``generate``.
        out: a .safetensors or .npz file. ``OUT.settings.json`` is written beside it.
        extractor: the feature network, such as ``"mnist"`` or ``"inception:FILE"``.
        features: keep the features too, which kid, precision, recall, density, coverage, cmmd and
            memorization need.
        keep: with ``features``: of a random subset of this many images if there are more.
        batch: images in a block.
        skip_corrupt: leave out images that cannot be read; otherwise they are an error.
        value_range: (black, white) of floating point npy files; default (-1, 1), checked.
        note: a word about the data, kept in the file; default the name of the source.
        device: where the network runs; ``"auto"`` is this process's GPU, or the CPU.
        progress: called as ``progress(done, total)`` after each block of this process.

    Returns the result; None in every process but the first, which waits for the others. Raises
    FewstepError for arguments and images that cannot be used.
    """
    settings = {
        "source": source,
        "extractor": extractor,
        "features": features,
        "keep": keep,
        "batch": batch,
        "skip_corrupt": skip_corrupt,
        "value_range": value_range,
        "note": note,
        "device": device,
    }
    texts = (str, Path)
    plain = {key: str(v) if isinstance(v, texts) else v for key, v in settings.items()}
    plain["device"] = str(device)
    plain = {key: None if v is None else checked(key, v) for key, v in plain.items()}
    found = _made(plain, Path(out), progress or (lambda done, total: None))
    if found is not None:
        beside = found.file.with_name(found.file.name + ".settings.json")
        write(beside, dumps(plain).encode())
    return found


def _made(
    settings: dict[str, Any], out: Path, progress: Callable[[int, int], None]
) -> ReferenceResult | None:
    from ..eval.features.loading import load_extractor
    from ..eval.features.storage import save_stats
    from .feature_blocks import clear, collect, idle, open_work
    from .samples import samples_of

    _check(settings, out)
    samples = samples_of(
        settings["source"], batch=settings["batch"], value_range=settings["value_range"]
    )
    network = load_extractor(settings["extractor"], device=device_named(settings["device"]))
    check_shape(samples, network)
    if idle(samples):
        return None
    work = open_work(None, {**samples.identity(), **feature_rules(network), "for": "ref"})
    keep = settings["keep"] if settings["features"] else 1
    found = collect(samples, network, None, work, keep, progress)
    if found is None:
        return None
    refuse_corrupt(found, samples, settings["skip_corrupt"])
    note = settings["note"] or Path(samples.name).name
    made = found.collected.stats(provenance_of(network, samples, found, note))
    features = found.collected.features() if settings["features"] else None
    save_stats(made, out, features)
    clear(work)
    kept = 0 if features is None else len(features)
    return ReferenceResult(out, made, kept, ImageFacts.of(samples, found))


def _check(settings: dict[str, Any], out: Path) -> None:
    """Raise ArgumentError for what can be known before the source is opened."""
    from ..eval.features.storage import SUFFIXES

    if out.suffix not in SUFFIXES:
        raise ArgumentError(f"out={str(out)!r}: allowed are {' and '.join(SUFFIXES)} files")
    if not out.parent.is_dir():
        raise ArgumentError(f"out={str(out)!r}: there is no folder {str(out.parent)!r}")
    if settings["source"] is None:
        raise ArgumentError("give a folder or an npz file of images")
    if settings["extractor"] is None:
        raise ArgumentError("extractor= must be given: the feature network, for instance mnist")

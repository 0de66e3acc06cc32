"""Scores of images against a reference: metrics of a folder of pictures, of npz files, of what
``generate`` wrote, or of a model as it draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError
from ..files import dumps, write
from .devices import device_named
from .drawing import DrawingSettings
from .guidance import GuidanceSettings
from .images import ImageFacts, check_shape, feature_rules, provenance_of, refuse_corrupt
from .settings import checked, plain_option

if TYPE_CHECKING:
    from ..eval.features.extractors import FeatureExtractor
    from ..eval.scoring.ratings import Rating, RatingOptions
    from ..eval.scoring.reference import FeatureSet
    from ..eval.scoring.scores import Scores
    from ..models.denoiser import Denoiser
    from ..schedules.grids.construction import Grid
    from .samples import Samples


@dataclass(frozen=True, eq=False)
class ScoringResult:
    """Result of ``score``.

    Attributes:
        scores: the ratings by metric, with intervals; ``result["fd"]`` is one of them.
        images: what is known of the images.
        settings: the settings, as JSON has them.
        reason: of samples that were drawn, what the automatic choices of sampler and grid took,
            and why; else empty.
    """

    scores: Scores
    images: ImageFacts
    settings: Mapping[str, Any]
    reason: str = ""

    def __getitem__(self, metric: str) -> Rating:
        return self.scores[metric]

    def record(self) -> dict[str, Any]:
        """Everything for JSON; ``score.json`` holds it."""
        from .metric_names import title

        record = self.scores.to_dict()
        for name, rating in record["metrics"].items():
            rating["name"] = title(name, self.scores.generated)
        seen = self.images
        return {
            "source": seen.name,
            "model": seen.model,
            "balanced_classes": seen.balanced,
            **record,
            "values": seen.values_record(),
            "skipped": seen.skipped_record(),
            "left_out": seen.left_out.to_dict(),
            "settings": dict(self.settings),
            **({"reason": self.reason} if self.reason else {}),
        }


@dataclass(frozen=True)
class ScoringSettings:
    """What is measured and how; see ``score``. Raises ArgumentError for a value that its setting
    does not take."""

    ref: str | Path | None = None
    extractor: str | Path | None = None
    metrics: str | Sequence[str] = "fd"
    held_out: str | Path | None = None
    level: float = 0.95
    resamples: int | None = None
    seed: int = 0
    keep: int = 50_000
    pairs: int = 10_000
    skip_corrupt: bool = False
    value_range: str | tuple[float, float] | None = None
    allow_mismatch: bool = False

    def __post_init__(self) -> None:
        for name, value in self.record().items():
            if value is not None:
                plain = str(value) if isinstance(value, Path) else value
                object.__setattr__(self, name, checked(name, plain))

    def record(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        return {name: plain_option(getattr(self, name)) for name in self.__dataclass_fields__}


def score(
    source: str | Path | None = None,
    *,
    model: Denoiser | str | Path | None = None,
    seeds: str | int | Iterable[int] = range(2000),
    batch: int = 64,
    sampler: str = "auto",
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Grid = "auto",
    final: str = "zero",
    labels: str | int | Sequence[int] | None = "random",
    cond: str | Path | None = None,
    size: str | int | tuple[int, int] | None = None,
    guidance: str | None = None,
    guidance_scale: float | None = None,
    guidance_interval: str | Sequence[float] | None = None,
    guidance_option: Mapping[str, Any] | None = None,
    device: Any = "auto",
    ref: str | Path | None = None,
    extractor: str | Path | None = None,
    metrics: str | Sequence[str] = "fd",
    held_out: str | Path | None = None,
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
    keep: int = 50_000,
    pairs: int = 10_000,
    skip_corrupt: bool = False,
    value_range: str | tuple[float, float] | None = None,
    allow_mismatch: bool = False,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> ScoringResult | None:
    """Score images against a reference; a second call goes on where the first one stopped.

    Example::

        result = fewstep.jobs.score("digits", metrics="fd,is", ref="mnist:test")
        result["fd"].value, result["fd"].low, result["fd"].high
        fewstep.jobs.score(model="mnist", sampler="unipc", nfe=8, seeds=range(2000))

    Args:
        source: a folder of pictures or npz files, an npz file, or a folder of ``generate``.
        model, seeds, sampler, steps, nfe, grid, final, labels, cond, size, guidance,
            guidance_scale, guidance_interval, guidance_option, options: instead of ``source``, the
            samples that ``generate`` would draw with these arguments.
        batch: images in a block.
        device: where the networks run; ``"auto"`` is this process's GPU, or the CPU.
        ref: ``"NAME:train"`` or ``"NAME:test"`` of a bundled model, or a file of ``reference``;
            default the training set of the model that drew the images.
        extractor: the feature network; default that of the reference.
        metrics: of fd, fd_infinity, kid, is, precision, recall, density, coverage, cmmd,
            memorization; a list, or a text with commas.
        held_out: a file of ``reference(..., features=True)`` that calibrates memorization.
        level: of the intervals, between 0 and 1.
        resamples: of the bootstrap of fd; 0 for none; default 200, above 256 dimensions 20.
        seed: of resamples and subsets.
        keep: features of at most this many samples are kept.
        pairs: at most this many samples where all pairs are formed.
        skip_corrupt: leave out images that cannot be read; otherwise they are an error.
        value_range: (black, white) of floating point npy files; default (-1, 1), checked.
        allow_mismatch: compare with statistics of another network or resize rule.
        out: a folder that keeps features, settings.json and score.json; default a temporary folder
            that is removed.
        progress: called as ``progress(done, total)`` after each block of this process.

    Returns the result; None in every process but the first, which waits for the others. Raises
    FewstepError for arguments and images that cannot be used.
    """
    drawing = DrawingSettings(
        model,
        seeds,
        batch,
        sampler,
        steps,
        nfe,
        grid,
        final,
        options,
        labels,
        cond,
        size,
        device,
        GuidanceSettings(guidance, guidance_scale, guidance_interval, guidance_option or {}),
    )
    chosen = ScoringSettings(
        ref=ref,
        extractor=extractor,
        metrics=metrics,
        held_out=held_out,
        level=level,
        resamples=resamples,
        seed=seed,
        keep=keep,
        pairs=pairs,
        skip_corrupt=skip_corrupt,
        value_range=value_range,
        allow_mismatch=allow_mismatch,
    )
    folder = None if out is None else Path(out)
    found = _allowed(source, drawing, chosen, folder, progress)
    if found is not None and folder is not None:
        write(folder / "settings.json", dumps(found.settings).encode())
        write(folder / "score.json", dumps(found.record()).encode())
    return found


def _allowed(
    source: str | Path | None,
    drawing: DrawingSettings,
    chosen: ScoringSettings,
    out: Path | None,
    progress: Callable[[int, int], None] | None,
) -> ScoringResult | None:
    """``_scored``; the error of statistics that do not fit names the argument that allows them."""
    from ..eval.errors import ProvenanceError

    try:
        return _scored(source, drawing, chosen, out, progress)
    except ProvenanceError as error:
        raise ArgumentError(
            f"{str(error).partition('; strict=')[0]}; allow_mismatch=True (--allow-mismatch) "
            "compares them all the same"
        ) from error


def _scored(
    source: str | Path | None,
    drawing: DrawingSettings,
    chosen: ScoringSettings,
    out: Path | None,
    progress: Callable[[int, int], None] | None,
) -> ScoringResult | None:
    """Check everything, collect the features, rate them."""
    from ..eval.scoring.scores import rate
    from .feature_blocks import clear, collect, idle, open_work
    from .samples import DrawnSamples, samples_of

    samples = samples_of(source, drawing, batch=drawing.batch, value_range=chosen.value_range)
    request = ScoringRequest.of(chosen, samples, drawing.device)
    if idle(samples):
        return None
    if out is not None and ((out / "blocks").exists() or (out / "manifest.json").exists()):
        raise ArgumentError(
            f"out={str(out)!r} is a folder of `fewstep generate`, whose settings.json must "
            "stay: give another folder"
        )
    identity = {**samples.identity(), **feature_rules(request.network)}
    drawn = samples.drawing if isinstance(samples, DrawnSamples) else None
    work = open_work(out, identity, drawn)
    report = progress or (lambda done, total: None)
    found = collect(samples, request.network, request.logits, work, chosen.keep, report)
    if found is None:
        return None
    refuse_corrupt(found, samples, chosen.skip_corrupt)
    scores = rate(
        found.collected,
        request.reference,
        request.metrics,
        provenance=provenance_of(request.network, samples, found, samples.name),
        held_out=request.held_out,
        options=request.options,
    )
    clear(work)
    said = {"source": None if source is None else str(source), **drawing.record()}
    reason = "" if drawn is None else drawn.asked.reason
    return ScoringResult(scores, ImageFacts.of(samples, found), {**said, **chosen.record()}, reason)


@dataclass(frozen=True, eq=False)
class ScoringRequest:
    """A score that was checked: the metrics, the reference and the networks."""

    metrics: tuple[str, ...]
    options: RatingOptions
    reference: FeatureSet | None
    network: FeatureExtractor
    logits: FeatureExtractor | None
    held_out: Any

    @classmethod
    def of(cls, chosen: ScoringSettings, samples: Samples, device: Any) -> ScoringRequest:
        """Load what the settings name. Raises FewstepError for what does not fit, before an image
        is read."""
        from ..eval.scoring.rated_metrics import METRICS
        from ..eval.scoring.scores import check_request, extractors, metric_names

        metrics, options = metric_names(chosen.metrics), _options(chosen)
        needed = any(METRICS[name].reference for name in metrics)
        reference = _reference(chosen, samples, needed=needed)
        network, logits = extractors(
            _extractor(chosen, samples),
            reference,
            "is" in metrics,
            device=device_named(str(device)),
        )
        rules = replace(network.provenance(), quantize=samples.quantize)
        check_request(metrics, reference, samples.count, rules, options.strict)
        held_out = _held_out(chosen, reference)
        check_shape(samples, network)
        return cls(metrics, options, reference, network, logits, held_out)


def _options(chosen: ScoringSettings) -> RatingOptions:
    from ..eval.scoring.ratings import RatingOptions

    return RatingOptions(
        level=chosen.level,
        resamples=chosen.resamples,
        seed=chosen.seed,
        pairs=chosen.pairs,
        strict=not chosen.allow_mismatch,
    )


def _reference(chosen: ScoringSettings, samples: Samples, *, needed: bool) -> FeatureSet | None:
    """The reference that is named, else the training set of the model that drew the images; None if
    no metric needs one and none is named."""
    from ..eval.scoring.reference import bundled_references, load_reference

    if chosen.ref is not None:
        return load_reference(chosen.ref)
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
        f"no reference: {where}; give ref=: {', '.join(bundled_references())}, or a file of "
        "`fewstep ref`"
    )


def _extractor(chosen: ScoringSettings, samples: Samples) -> str | None:
    """The feature network that is named; without a reference, the bundled one of the model."""
    from ..eval.scoring.reference import bundled_references

    if chosen.extractor is not None:
        return str(chosen.extractor)
    known = chosen.ref is None and f"{samples.model}:train" in bundled_references()
    return samples.model if known else None


def _held_out(chosen: ScoringSettings, reference: FeatureSet | None) -> Any:
    from ..eval.scoring.reference import load_reference

    if chosen.held_out is None:
        return None
    found = load_reference(chosen.held_out)
    if found.features is None:
        raise ArgumentError(
            f"held_out={str(chosen.held_out)!r} holds moments only: make it with `fewstep "
            "ref DATA --features --out FILE`"
        )
    if reference is not None and not chosen.allow_mismatch:
        reference.stats.provenance.check(found.stats.provenance)
    return found.features

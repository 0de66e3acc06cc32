"""A model under test: its start states, classes, converged end points, and the metric of its
samples.

The metric of images is the Frechet distance in the features of the bundled network of the same
name; that of an exact mixture is the sliced Wasserstein distance to its own exact draws. Both have
a 95 % interval. Other models have a solver error only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...engine.information import SampleInfo
from ...engine.planning import Request
from ...engine.sampling import execute
from ...engine.start_states import start_state
from ...files import sha256
from ...models.classifier import bundled_classifiers, classifier_folder
from ...models.denoiser import Denoiser
from ...models.errors import ModelError
from ...models.loading import classes_of
from ...models.mixture import GaussianMixture
from ...models.precision import InOwnPrecision, own_dtype
from ...models.wrapper import complete
from ..errors import ScoreError
from ..features.extractors import Device, FeatureExtractor, module_hash
from ..features.loading import bundled_stats, load_extractor
from ..features.moments import FeatureStats
from ..features.storage import load_stats
from ..metrics.distances import sliced_wasserstein
from ..metrics.frechet import frechet_distance
from ..metrics.intervals import frechet_interval
from ..solver.trajectory import TrajectoryReference, doubled_reference, reference_states
from .selection import NAME, BestOf, Rating, draw_best, rating_of
from .settings import BenchSettings
from .store import Store

#: independent parts of a mixture's samples, whose mean has a 95 % interval by Student's t
PARTS = 10
#: RMS change of the end points below which the steps are no longer doubled, and the tolerance for
#: exact models
TOLERANCE, EXACT = 1e-3, 1e-8


@dataclass(frozen=True)
class Quality:
    """The value of a metric (lower is better) with its 95 % interval [low, high]; ``plain`` is not
    corrected for the bias of a finite sample."""

    value: float
    low: float
    high: float
    plain: float


class Subject:
    """A denoiser under a name. ScoreError if its samples cannot be rated as the settings ask."""

    def __init__(self, name: str, denoiser: Denoiser, settings: BenchSettings) -> None:
        self.name, self.denoiser, self.settings = name, denoiser, settings
        if denoiser.shape is None:
            raise ScoreError(
                f"the model {name!r} has shape=None; a benchmark needs the shape of a sample, "
                "as in models.wrap(..., shape=(1, 28, 28))"
            )
        self.classes = (
            0
            if isinstance(denoiser, GaussianMixture) or settings.labels == "none"
            else classes_of(denoiser)
        )
        full = complete(denoiser)
        self.device = full.device
        weights = (
            module_hash(full.network)
            if isinstance(full.network, nn.Module)
            else sha256(repr(denoiser))
        )
        self.facts = {
            "weights": weights,
            "schedule": repr(denoiser.schedule),
            "prediction": denoiser.prediction,
            "classes": self.classes,
        }
        if full.guided:  # the guidance decides the samples too
            self.facts["guided"] = repr(denoiser)
        self.metric: str | None = None
        self.floor: float | None = None
        self.note: str | None = None
        self.rating: Rating | None = None
        if any(text.partition(":")[0] == NAME for text in settings.samplers):
            known = name if settings.features is None else settings.features
            bundled = known if known in bundled_classifiers().values() else None
            self.rating = rating_of(denoiser, bundled)
        if settings.samples:
            self._rate_by()

    def _rate_by(self) -> None:
        if isinstance(self.denoiser, GaussianMixture):
            _enough(self.settings.samples, 20 * PARTS, "the sliced Wasserstein distance")
            self.metric = "SW2"
            self.facts["metric"] = "SW2"
            self.floor = self._sliced(
                self.denoiser.sample(self.settings.samples, 2).flatten(1)
            ).value
            return
        asked = self.settings.features
        found = features_for(
            self.name if asked is None else asked, strict=asked is not None, device=self.device
        )
        if found is None:
            self.note = f"no feature network is bundled for {self.name}: solver error only"
            return
        self.extractor, self.stats, self.floor = found
        _enough(self.settings.samples, 2 * self.stats.dim, self.extractor.name)
        self.metric = self.extractor.name.replace("fd-", "FD-")
        self.facts["metric"] = (
            f"{self.extractor.name} {self.extractor.digest} {self.stats.provenance.data}"
        )

    def draw(
        self, asked: Request, seeds: Sequence[int], dtype: torch.dtype | None = None
    ) -> tuple[Tensor, SampleInfo]:
        """Draw one block of samples and return them on the host.

        The states have ``dtype`` if given; the network computes in its own.
        """
        if isinstance(asked, BestOf):
            if self.rating is None:
                raise ScoreError(f"no reward is known for samples of {self.name}")
            x, facts = draw_best(asked, self.denoiser, self.rating, seeds, self.cond(seeds))
            return x.cpu(), facts
        model = self.denoiser if dtype is None else InOwnPrecision(self.denoiser)
        x = start_state(self.denoiser, asked.grid[0], seeds, dtype=dtype)
        out, facts = execute(asked, model, x, seeds=seeds, cond=self.cond(seeds))
        return out.cpu(), facts

    def cond(self, seeds: Sequence[int]) -> Tensor | None:
        """Return class = seed modulo number of classes; None for a model without classes."""
        return (
            torch.tensor([seed % self.classes for seed in seeds], device=self.device)
            if self.classes
            else None
        )

    def reference(self, store: Store) -> TrajectoryReference:
        """Return the converged end points of all seeds, from the cache if they are there."""
        s, exact = self.settings, own_dtype(self.denoiser) == torch.float64
        tolerance = s.tolerance if s.tolerance is not None else EXACT if exact else TOLERANCE
        facts = {
            **self.facts,
            "n": s.n,
            "tolerance": tolerance,
            "final": s.final,
            "exact": exact,
            "batch": s.batch,
        }
        facts.pop("metric", None)
        kept = store.arrays("reference", facts)
        if kept is not None and (found := _reference_of(*kept, count=s.n)) is not None:
            return found
        parts = [self._followed(seeds, tolerance, exact) for seeds in blocks(range(s.n), s.batch)]
        start, end = (torch.cat([part.states[k].cpu() for part in parts]) for k in (0, -1))
        sizes = [len(part.states[0]) for part in parts]
        error = (
            sum(size * part.error**2 for size, part in zip(sizes, parts, strict=True)) / s.n
        ) ** 0.5
        nfe = max(part.nfe for part in parts)
        store.keep_arrays(
            "reference",
            facts,
            {"start": start, "end": end},
            {"error": repr(error), "nfe": str(nfe)},
        )
        return TrajectoryReference((), (start, end), error, nfe)

    def _followed(self, seeds: Sequence[int], tolerance: float, exact: bool) -> TrajectoryReference:
        from ...schedules.grids.construction import grid

        ends = grid("lam", self.denoiser.schedule, 2, final=self.settings.final)
        x = start_state(self.denoiser, ends[0], seeds, dtype=torch.float64)
        if exact:
            return reference_states(
                self.denoiser,
                x,
                ends,
                tolerance=min(tolerance, 1e-3),
                cond=self.cond(seeds),
                every=False,
            )
        return doubled_reference(
            self.denoiser, x, tolerance=tolerance, cond=self.cond(seeds), final=self.settings.final
        )

    def material(self, samples: Tensor) -> Tensor:
        """Return what the metric needs of a block of samples: features, or the points."""
        return (
            samples.flatten(1).double()
            if self.metric == "SW2"
            else self.extractor.features(samples, value_range=(-1.0, 1.0))
        )

    def rate(self, material: Tensor) -> Quality:
        """Return the metric of all samples, from what ``material`` returned for them."""
        if self.metric == "SW2":
            return self._sliced(material)
        plain = frechet_distance(self.stats, material, strict=False)
        found = frechet_interval(
            self.stats, material, resamples=self.settings.resamples, strict=False
        )
        assert found.low is not None and found.high is not None
        return Quality(found.value, found.low, found.high, plain)

    def _sliced(self, points: Tensor) -> Quality:
        """Mean over disjoint parts, each against as many exact draws, with Student's interval."""
        from scipy.stats import t  # type: ignore[import-untyped]

        assert isinstance(self.denoiser, GaussianMixture)
        size = len(points) // PARTS
        real = self.denoiser.sample(size * PARTS, 1).flatten(1)
        pairs = [(real[i : i + size], points[i : i + size]) for i in range(0, size * PARTS, size)]
        values = torch.tensor(
            [sliced_wasserstein(a, b, directions=100).value for a, b in pairs], dtype=torch.float64
        )
        student = float(t.ppf(0.975, PARTS - 1))
        mean, wide = float(values.mean()), student * float(values.std()) / PARTS**0.5
        return Quality(mean, mean - wide, mean + wide, mean)


def _reference_of(
    arrays: Mapping[str, Tensor], notes: Mapping[str, str], count: int
) -> TrajectoryReference | None:
    """The end points that the cache holds; None if the file has another form."""
    try:
        start, end, error, nfe = (
            arrays["start"],
            arrays["end"],
            float(notes["error"]),
            int(notes["nfe"]),
        )
    except (KeyError, ValueError):
        return None
    return (
        TrajectoryReference((), (start, end), error, nfe)
        if start.shape == end.shape and start.ndim and len(start) == count
        else None
    )


def features_for(
    name: str, strict: bool = False, device: Device = None
) -> tuple[FeatureExtractor, FeatureStats, float | None] | None:
    """Return a feature network, the statistics of its training set, and their distance to those of
    its test set; ``name`` is a bundled network or a folder.

    None if there is no network of that name; with ``strict``, raise the error instead.
    """
    try:
        extractor = load_extractor(name, device=device)
        real = bundled_stats(name, "train")
    except (ModelError, ScoreError):
        if strict:
            raise
        return None
    test = classifier_folder(name) / "test.safetensors"
    return extractor, real, frechet_distance(real, load_stats(test)) if test.is_file() else None


def blocks(seeds: Sequence[int], size: int) -> list[Sequence[int]]:
    """Split ``seeds`` into blocks of ``size``."""
    return [seeds[i : i + size] for i in range(0, len(seeds), size)]


def _enough(samples: int, least: int, what: str) -> None:
    if samples < least:
        raise ScoreError(f"samples={samples}: {what} needs at least {least}; 0 measures no quality")


def loaded(models: Any) -> dict[str, Denoiser]:
    """Load denoisers by name, from names and folders, a mapping, or one denoiser. ScoreError or
    ModelError before anything is computed."""
    from ...models.loading import load

    if isinstance(models, str):
        models = [models]
    if hasattr(models, "items"):
        return dict(models.items())
    if isinstance(models, Denoiser):
        return {"model": models}
    return {str(name): load(name) for name in models}

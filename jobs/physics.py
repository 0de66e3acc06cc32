"""Scores of physical fields by the residual and the metrics of an equation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..checks import ArgumentError
from ..files import dumps, write
from .field_grids import FieldGrid, field_grid, true_solutions
from .field_samples import field_samples
from .settings import checked, plain_option

if TYPE_CHECKING:
    from ..eval.physics.rating.scores import FieldRating, FieldScores


@dataclass(frozen=True, eq=False)
class PhysicsResult:
    """Result of ``score_physics``.

    Attributes:
        scores: the ratings by metric; ``result["relative_residual"]`` is one of them.
        source, model: where the samples come from.
        grid: their spacing and the parameters of the equation.
        settings: as JSON has them.
    """

    scores: FieldScores
    source: str
    model: str | None
    grid: FieldGrid
    settings: Mapping[str, Any]

    def __getitem__(self, metric: str) -> FieldRating:
        return self.scores[metric]

    def record(self) -> dict[str, Any]:
        """Everything for JSON; ``score.json`` holds it. Parameters on the grid are left out."""
        params = {k: v for k, v in self.grid.params.items() if not isinstance(v, Tensor)}
        return {
            "source": self.source,
            "model": self.model,
            **self.scores.to_dict(),
            "spacing": dict(self.grid.spacing),
            "params": plain_option(params),
            "grid": self.grid.origin,
            "settings": dict(self.settings),
        }


@dataclass(frozen=True)
class PhysicsSettings:
    """What is rated and how; see ``score_physics``. Raises ArgumentError for a value that its
    setting does not take."""

    physics: str
    fields: str | Sequence[str] | None = None
    field_map: Mapping[str, tuple[float, float]] | None = None
    spacing: Mapping[str, float] | None = None
    param: Mapping[str, Any] | None = None
    data: str | Path | int | None = None
    truth: str | Path | None = None
    levels: Mapping[str, tuple[float, float]] | None = None
    metrics: str | Sequence[str] | None = None
    threshold: float = 0.8
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in self.record().items():
            if value is not None:
                plain = str(value) if isinstance(value, Path) else value
                object.__setattr__(self, name, checked(name, plain))

    def record(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {k: plain_option(str(v) if isinstance(v, Path) else v) for k, v in found.items()}

    @property
    def names(self) -> tuple[str, ...] | None:
        """The fields of the channels."""
        if self.fields is None:
            return None
        parts = self.fields.split(",") if isinstance(self.fields, str) else self.fields
        return tuple(part.strip() for part in parts)


def score_physics(
    source: str | Path,
    physics: str,
    *,
    fields: str | Sequence[str] | None = None,
    field_map: Mapping[str, tuple[float, float]] | None = None,
    spacing: Mapping[str, float] | None = None,
    param: Mapping[str, Any] | None = None,
    data: str | Path | int | None = None,
    truth: str | Path | None = None,
    levels: Mapping[str, tuple[float, float]] | None = None,
    metrics: str | Sequence[str] | None = None,
    threshold: float = 0.8,
    level: float = 0.95,
    seed: int = 0,
    out: str | Path | None = None,
) -> PhysicsResult:
    """Rate samples that are physical fields by their equation, beside true solutions.

    Example::

        result = fewstep.jobs.score_physics("samples", "darcy", data=256)
        result["relative_residual"].value, result["relative_residual"].data.value

    Args:
        source: a folder of ``generate`` or of npz files, or an npz file: channels ``x``, or fields
            by name in physical units, as ``eval.physics.save_fields`` writes them.
        physics: the equation, one of ``eval.physics.EQUATIONS``.
        fields: names of the channels in order, a list or a text with commas; default those of the
            model that drew the samples.
        field_map: field -> (scale, shift), ``channel = scale value + shift``; default those of the
            model, else (1, 0).
        spacing: axis -> distance of two points; default that of the file, or of the equation's
            data set of this size.
        param: parameters of the equation; default those of the file, or, with the default spacing,
            of the data set.
        data: an npz file of true solutions, or a number of draws of the equation's data set.
        truth: an npz file with the true fields of each sample, in order.
        levels: field -> the two values of a coefficient, for ``wrong_share``.
        metrics, threshold, level: see ``eval.physics.rate``.
        seed: of the first draw of ``data``.
        out: a folder for score.json and settings.json.

    Raises FewstepError for arguments and samples that cannot be used.
    """
    asked = PhysicsSettings(
        physics,
        fields,
        field_map,
        spacing,
        param,
        data,
        truth,
        levels,
        metrics,
        threshold,
        level,
        seed,
    )
    _check_out(out)
    found = _rated(source, asked)
    if out is not None:
        write(Path(out) / "settings.json", dumps(found.settings).encode())
        write(Path(out) / "score.json", dumps(found.record()).encode())
    return found


def _rated(source: str | Path, asked: PhysicsSettings) -> PhysicsResult:
    """Check the names, read the samples, rate them."""
    from ..eval.physics.equation import equation_named
    from ..eval.physics.rating.measures import GIVE, chosen
    from ..eval.physics.rating.scores import rate
    from ..eval.physics.storage import load_fields

    equation = equation_named(asked.physics)
    chosen(asked.metrics, GIVE)
    samples = field_samples(source, asked.names, asked.field_map)
    grid = field_grid(asked.physics, equation, samples, asked.spacing, asked.param)
    true = None
    if asked.data is not None:
        true = true_solutions(asked.physics, equation, samples, grid, asked.data, asked.seed)
    scores = rate(
        asked.physics,
        samples.problem.fields,
        grid.spacing,
        grid.params,
        None if asked.truth is None else load_fields(asked.truth).fields,
        true,
        metrics=asked.metrics,
        levels=asked.levels,
        threshold=asked.threshold,
        level=asked.level,
    )
    settings = {"source": str(source), **asked.record()}
    return PhysicsResult(scores, samples.name, samples.model, grid, settings)


def _check_out(out: str | Path | None) -> None:
    if out is None:
        return
    if any((Path(out) / name).exists() for name in ("blocks", "manifest.json")):
        raise ArgumentError(
            f"out={str(out)!r} is a folder of `fewstep generate`, whose settings.json must stay: "
            "give another folder"
        )

"""The result of a benchmark: its rows, facts about each model, and the best rows at a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ScoreError
from .rows import Row, winners
from .settings import BenchSettings


@dataclass(frozen=True)
class ModelFacts:
    """Facts that hold for all rows of a model.

    Attributes:
        metric: name of the quality; None if it was not measured.
        floor: ``metric`` of real data against real data.
        reference_error, reference_nfe: RMS error of the reference end points, and the network calls
            they took.
        note: why the quality could not be measured.
        picture: PNG of the first end points in base64; ``points``: end points of a model of points.
    """

    metric: str | None
    floor: float | None
    reference_error: float
    reference_nfe: int
    note: str | None
    picture: str | None = None
    points: tuple[tuple[float, float], ...] | None = None


@dataclass(frozen=True)
class Bench:
    """The result: ``rows`` with ranks, ``models`` by name, and the resolved ``settings``."""

    rows: tuple[Row, ...]
    models: Mapping[str, ModelFacts]
    settings: BenchSettings

    def best(self, budget: int, model: str | None = None, by: str | None = None) -> list[Row]:
        """Return the rows of rank 1 at ``budget``, several if they tie.

        They are ranked by ``quality`` where it was measured, else by solver error (``rmse``).
        ScoreError for a model or a budget that was not measured.
        """
        name = model if model is not None else next(iter(self.models))
        if name not in self.models or budget not in self.settings.nfes:
            raise ScoreError(
                f"model {name!r} at {budget} calls: measured are {', '.join(self.models)} at "
                f"{list(self.settings.nfes)}"
            )
        found = [] if by == "rmse" else winners(self.rows, name, budget, "quality")
        return found or ([] if by == "quality" else winners(self.rows, name, budget, "rmse"))

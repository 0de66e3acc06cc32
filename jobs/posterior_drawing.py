"""Samples of a posterior in blocks: the measurements beside the settings of ``Drawing``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError
from ..files import write, write_tensors
from . import pictures
from .blocks import Block, Folder
from .comparison import comparison, seen, to_pixels
from .drawing import Drawing, DrawingSettings
from .problem import Problem, ProblemSettings
from .reconstruction_scores import ReconstructionScores, summary
from .settings import parse_seeds, seeds_text

if TYPE_CHECKING:
    from torch import Tensor

    from ..engine.planning import Request

#: samples in the picture of before and after
SHOWN = 16


class PosteriorDrawing(Drawing):
    """The samples of some settings for the measurements of a problem, block by block; everything is
    checked before the network is called."""

    noted = True

    def __init__(
        self, settings: DrawingSettings, problem: ProblemSettings, own_seeds: bool = True
    ) -> None:
        """``own_seeds``: False to take one seed a measurement, from 0, in place of those of
        ``settings``. Raises FewstepError for settings that cannot be drawn."""
        self.asks, self.own_seeds = problem, own_seeds
        super().__init__(settings)
        self.hashes |= {**self.problem.hashes, **self.scores.hashes}

    def completed(self, settings: DrawingSettings) -> DrawingSettings:
        """Reads the problem; the seeds, one for each measurement."""
        self.problem = Problem(self.asks, self.shape)
        self.scores = ReconstructionScores(self.shape, self.asks.lpips)
        count = self.problem.count
        if not self.own_seeds:
            settings = replace(settings, seeds=range(count or 1))
        seeds = parse_seeds(seeds_text(settings.seeds))
        if count not in (None, len(seeds)):
            raise ArgumentError(
                f"seeds={settings.seeds!r}: {len(seeds)} samples, and there are {count} "
                "measurements: give one seed for each, or one measurement"
            )
        return settings

    def request(self, settings: DrawingSettings) -> Request:
        """The sampler on its grid, checked for the method, whose own is that of ``auto``."""
        from ..engine.automatic import facts_of
        from ..engine.solving import requested
        from ..guidance.posterior import registry
        from ..models.wrapper import complete
        from ..schedules.grids.request import GridRequest

        prior, asks = complete(self.denoiser), self.asks
        entry = registry.get(asks.method)
        made = self.made = registry.made(entry, prior, self.problem.likelihood, asks.method_option)
        where = GridRequest(
            settings.steps,
            settings.nfe,
            settings.grid,
            final=settings.final,
            facts=facts_of(prior),
        )
        return requested(entry, made, _named(settings), settings.option, where)

    def check(self) -> None:
        """Raise FewstepError for a method that does not give what the plan reads."""
        self.asked.check_model(self.made)

    def record(self) -> dict[str, Any]:
        """What decides the bytes, as JSON has it."""
        return {**super().record(), **self.asks.record()}

    @property
    def facts(self) -> dict[str, Any]:
        """Model, problem, method, sampler and hashes, for the manifest."""
        found = super().facts
        del found["nfe"]
        model = found.pop("model")
        return {"model": model, **self.asks.record(), **found}

    def former(self, record: Mapping[str, Any]) -> None:
        """No folder of version 0.1 holds such samples."""

    def same_request(self, record: Mapping[str, Any]) -> bool:
        """No folder of version 0.1 holds such samples."""
        return False

    def finished(self, folder: Folder, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Write the measurements and the picture of before and after; mean scores and calls."""
        truth = {} if self.problem.truth is None else {"truth": self.problem.truth}
        write_tensors(
            folder.root / "measurement.safetensors", {"y": self.problem.likelihood.y, **truth}
        )
        if len(self.shape) == 3:
            write(folder.root / "comparison.png", pictures.png(self._comparison(folder)))
        return summary(note for record in records for note in record["notes"])

    def _comparison(self, folder: Folder) -> Any:
        import torch

        shown = self.blocks
        count = min(SHOWN, sum(len(block.seeds) for block in shown))
        rows = range(count)
        likelihood, truth = self.problem.of(rows), self.problem.truth_of(rows)
        value = likelihood.operator(torch.zeros(count, *self.shape))
        y = likelihood.data(value).expand_as(value)
        before = seen(likelihood.operator, y, self.shape)
        columns = [None if before is None else to_pixels(before), folder.pixels(shown, count)]
        columns += [None if truth is None else to_pixels(truth)]
        return comparison([column for column in columns if column is not None])

    def _rows(self, block: Block) -> range:
        start = self.conditions.starts[block.index]
        return range(start, start + len(block.seeds))

    def _drawn(self, block: Block) -> tuple[Tensor, list[dict[str, Any]] | None]:
        from ..engine.solving import solve

        given, asks, rows = self.settings, self.asks, self._rows(block)
        likelihood = self.problem.of(rows)
        x, info = solve(
            self.denoiser,
            likelihood,
            asks.method,
            sampler=_named(given),
            sampler_options=given.option,
            steps=given.steps,
            nfe=given.nfe,
            grid=given.grid,
            final=given.final,
            seeds=block.seeds,
            cond=self.conditions.of(block, self.device),
            device=self.device,
            info=True,
            **asks.method_option,
        )
        return x, self.scores.notes(x, likelihood, self.problem.truth_of(rows), info.counts)


def _named(settings: DrawingSettings) -> str | None:
    """The sampler; None is the method's own."""
    from ..engine.automatic import AUTO

    return None if settings.sampler == AUTO else settings.sampler

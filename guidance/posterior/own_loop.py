"""``OwnLoop``, the base class of methods with a loop of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError
from ...models.denoiser import Condition
from ...schedules.grids.construction import Grid
from .counts import Counts
from .posterior import Levels, Posterior
from .prediction import Prediction
from .registry import names


class Route(NamedTuple):
    """What a loop runs: a sampler with its options on a grid, and the seeds of the samples."""

    sampler: str
    options: Mapping[str, Any]
    grid: Grid
    seeds: tuple[int, ...]


class OwnLoop(Posterior):
    """A method of form "loop": ``looped`` replaces the run of a sampler. It is no denoiser of the
    posterior."""

    def looped(
        self,
        route: Route,
        x: Tensor,
        cond: Condition,
        report: Callable[[int, int], None] | None,
    ) -> tuple[Tensor, Counts | None]:
        """Run from ``x`` (B, *shape), the state at the first node of the grid. Returns the samples
        and the cost that was foretold, None where it depends on the data. ``report(done, total)``
        is called as it goes on."""
        raise NotImplementedError

    @override
    def spent(self) -> Counts:
        raise self._no_denoiser()

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        raise self._no_denoiser()

    def _no_denoiser(self) -> ArgumentError:
        own = type(self).__name__
        return ArgumentError(
            f"{own} has a loop of its own: use guidance.solve (methods: {', '.join(names())})"
        )

"""The grid of a comparison, with the facts about the model that the automatic choices use."""

from __future__ import annotations

from collections.abc import Sequence

from ...engine.automatic import facts_of
from ...models.denoiser import Denoiser
from ...models.wrapper import complete
from ...schedules.grids.construction import Grid
from ...schedules.grids.request import GridRequest


def grid_of(
    denoiser: Denoiser,
    steps: int | None,
    nfe: int | None,
    grid: str | Grid,
    final: str,
    shape: Sequence[int] | None = None,
) -> GridRequest:
    """The grid that ``fewstep.sample`` takes for these arguments. ``shape``: of one sample, if it
    is not the model's."""
    facts = facts_of(complete(denoiser), shape)
    return GridRequest(steps, nfe, grid, final=final, facts=facts)

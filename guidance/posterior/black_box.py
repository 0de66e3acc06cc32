"""Gradients of the loss of a prediction from values of the operator alone."""

from __future__ import annotations

import math
from copy import copy
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...models.base import RunFacts
from ...models.denoiser import Denoiser
from ..smoothing.directions import BLOCK
from ..smoothing.estimate import Smoothing
from .counts import Counts
from .posterior import Levels, Posterior


class BlackBox(Posterior):
    """A method that takes operators without derivative: ``slope`` estimates the gradient of
    ``|y - A(x0)|^2`` by ``Smoothing``. Directions belong to the seeds of the samples and to the
    noise level; outside of a run sample i has the seed i."""

    black_box = True

    def __init__(
        self, denoiser: Denoiser, likelihood: Any, directions: int, mu: float, form: str
    ) -> None:
        self.smoothing = Smoothing(directions, mu, form)
        self._seeds: tuple[int, ...] | None = None
        super().__init__(denoiser, likelihood)

    @override
    def for_run(self, facts: RunFacts) -> Self:
        made = copy(super().for_run(facts))
        made._seeds = facts.seeds or None
        return made

    @override
    def select(self, rows: Tensor) -> Self:
        made = super().select(rows)
        if self._seeds is not None:
            made._seeds = tuple(self._seeds[i] for i in rows.tolist())
        return made

    @property
    def values(self) -> int:
        """Batched calls of the operator for one gradient."""
        blocks = math.ceil(self.smoothing.directions / BLOCK)
        return 1 + blocks * (2 if self.smoothing.form == "central" else 1)

    def slope(self, x0: Tensor, at: Levels, counts: Counts) -> tuple[Tensor, Tensor]:
        """``|y - A(x0)|^2`` of each sample (B,), and its estimated gradient (B, *shape)."""
        with torch.no_grad():
            base = self._squares(x0, len(x0), counts)
            known = base if self.smoothing.form == "forward" else None
            address = at.sigmas[0] / at.alphas[0] if at.alphas[0] else 0.0
            found = self.smoothing.gradient(
                lambda points: self._squares(points, len(x0), counts),
                x0,
                seeds=self._seeds,
                t=address,
                values=known,
            )
        return base, found

    def _squares(self, points: Tensor, batch: int, counts: Counts) -> Tensor:
        """``|y - A(x0)|^2`` of each point; those of one of ``batch`` samples are next to each
        other."""
        counts.operator += 1
        own = self.likelihood
        if len(points) != batch:
            rows = torch.arange(len(points), device=points.device)
            own = own.select(rows * batch // len(points))
        squares: Tensor = own.residual(self.data(points)).square().flatten(1).sum(1)
        return squares

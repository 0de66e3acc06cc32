"""A denoiser that counts its calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..models.denoiser import Denoiser


class Counting:
    """Passes everything on to ``denoiser``; ``calls`` counts network evaluations, ``times`` keeps their times (the noisiest sample's)."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self.schedule, self.prediction, self.shape = denoiser.schedule, denoiser.prediction, denoiser.shape
        self.coefficients, self.input_scale = denoiser.coefficients, denoiser.input_scale
        self.times: list[float] = []

    @property
    def calls(self) -> int:
        """Network evaluations so far."""
        return len(self.times)

    def raws(self, x_in: Tensor, t: Any, cond: Tensor | Mapping[str, Tensor] | None = None) -> tuple[Tensor, ...]:
        """One counted evaluation."""
        self.times.append(float(torch.as_tensor(t).max()))
        return self.denoiser.raws(x_in, t, cond)

    def __call__(self, x: Tensor, t: Any, cond: Tensor | Mapping[str, Tensor] | None = None) -> Tensor:
        """One counted evaluation, as the denoiser's own kind of prediction."""
        self.times.append(float(torch.as_tensor(t).max()))
        return self.denoiser(x, t, cond)

"""A wrapper that runs a model in its own precision while the states are float64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from .base import MAIN
from .denoiser import Condition, Denoiser, Time
from .wrapper import Wrapper, complete


def own_dtype(denoiser: Denoiser) -> torch.dtype:
    """The dtype of a network's weights; float64 for a model without weights, which takes any."""
    parameters = complete(denoiser).parameters()
    return next((p.dtype for p in parameters if p.is_floating_point()), torch.float64)


class InOwnPrecision(Wrapper):
    """``denoiser`` that converts its input to its own dtype and its raw outputs to the state's."""

    same_predictions = True

    def __init__(self, denoiser: Denoiser, dtype: torch.dtype | None = None) -> None:
        super().__init__(denoiser)
        self.dtype = dtype or own_dtype(denoiser)

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        raws = super().raws(x_in.to(self.dtype), t, cond, channels, to)
        return tuple(raw.to(x_in.dtype) for raw in raws)

"""A model that computes in its own precision inside a run whose states are float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...models.denoiser import Denoiser, call, check_denoiser


def own_dtype(denoiser: Denoiser) -> torch.dtype:
    """The dtype of a network's weights; float64 for a model without any, which takes what it is
    given."""
    network = getattr(denoiser, "network", None)
    inner = getattr(denoiser, "denoiser", None)
    if isinstance(network, nn.Module):
        return next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float64)
    return torch.float64 if inner is None else own_dtype(inner)


class InOwnPrecision:
    """``denoiser`` with its input rounded to its own dtype and its raw outputs widened to the
    state's."""

    def __init__(self, denoiser: Denoiser, dtype: torch.dtype | None = None) -> None:
        check_denoiser(denoiser)
        self.denoiser, self.dtype = denoiser, dtype or own_dtype(denoiser)
        self.schedule, self.prediction, self.shape = (
            denoiser.schedule,
            denoiser.prediction,
            denoiser.shape,
        )
        self.coefficients, self.input_scale = denoiser.coefficients, denoiser.input_scale

    def __getattr__(self, name: str) -> Any:
        """All else is the denoiser's own (the offset of a mean-reverting model, its device)."""
        if name == "denoiser":  # asked for before __init__ ran, by copy or pickle
            raise AttributeError(name)
        return getattr(self.denoiser, name)

    def raws(
        self, x_in: Tensor, t: Any, cond: Tensor | Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, ...]:
        """One evaluation."""
        return tuple(raw.to(x_in.dtype) for raw in self.denoiser.raws(x_in.to(self.dtype), t, cond))

    def __call__(
        self, x: Tensor, t: Any, cond: Tensor | Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """The prediction, with the state's share of it in the state's dtype."""
        return call(self, x, t, cond)

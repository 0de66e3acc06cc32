"""The methods of guidance that are not linear in the predictions, and a model for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from problems import F64
from torch import Tensor

from fewstep.guidance import APG, CFG, FDG, MAMBO, TCFG, CFGZero, Threshold
from fewstep.models import GaussianMixture, Wrapper
from fewstep.schedules import Flow, Schedule

#: of samples with an odd size, whose sums over elements have odd parts
SHAPE = (3, 5, 4)
#: w = 4 of each method
METHODS: dict[str, Callable[[Any], Any]] = {
    "apg": lambda den: APG(den, 4.0, norm=5.0),
    "apg with momentum": lambda den: APG(den, 4.0, momentum=-0.5, eta=0.2),
    "cfg_zero": lambda den: CFGZero(den, 4.0, zero_steps=0),
    "cfg_zero, zero steps": lambda den: CFGZero(den, 4.0, zero_steps=1),
    "tcfg": lambda den: TCFG(den, 4.0),
    "mambo": lambda den: MAMBO(den, 4.0, alpha=1.0),
    "fdg": lambda den: FDG(den, (6.0, 3.0)),
    "fdg, parallel weights": lambda den: FDG(den, (6.0, 3.0), parallel_weights=(0.5, 0.0)),
    "rescale": lambda den: CFG(den, 4.0, rescale=0.7),
    "threshold": lambda den: Threshold(CFG(den, 4.0)),
    "static threshold": lambda den: Threshold(CFG(den, 4.0), "static"),
}


def images(schedule: Schedule, prediction: str | None = None) -> GaussianMixture:
    """Two Gaussians of shape (3, 5, 4), one for each label; an exact model, whose rows do not
    depend on the batch."""
    means = torch.randn(2, *SHAPE, dtype=F64, generator=torch.Generator().manual_seed(7))
    kind = prediction or ("velocity" if isinstance(schedule, Flow) else "eps")
    return GaussianMixture(means, 0.3, [0.5, 0.5], schedule, kind)


def pair(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> tuple[Tensor, Tensor]:
    """A conditional and an unconditional prediction that have something in common."""
    g = torch.Generator().manual_seed(seed)
    cond = torch.randn(*shape, dtype=F64, generator=g)
    uncond = 0.6 * cond + 0.5 * torch.randn(*shape, dtype=F64, generator=g)
    return cond.to(dtype), uncond.to(dtype)


class Spy(Wrapper):
    """Keeps (t, combination, m_c, m_u) of every call of a combination that has a kind."""

    def __init__(self, denoiser: Any) -> None:
        super().__init__(denoiser)
        self.seen: list[tuple[float, Tensor, Tensor, Tensor]] = []

    def raws(self, x_in, t, cond=None, channels=("main",), to=None):
        raws = super().raws(x_in, t, cond, channels, to)
        main, uncond, conditional = (raw.clone() for raw in raws[:3])
        self.seen.append((float(t), main, conditional, uncond))
        return raws

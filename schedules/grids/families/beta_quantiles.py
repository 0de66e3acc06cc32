"""Grids at quantiles of a Beta(a, b) distribution, a = b = 0.6 (Lee et al. 2024, arXiv
2407.12173): dense at both ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....checks import between
from ..frame import Frame, ramp
from ..registry import register


@dataclass(frozen=True)
class Beta:
    """``a``, ``b`` > 0: the parameters of the distribution."""

    a: float = 0.6
    b: float = 0.6

    def __post_init__(self) -> None:
        between("a", self.a, 0)
        between("b", self.b, 0)


def quantile(a: float, b: float, u: Any) -> Any:
    """The inverse distribution function of Beta(a, b)."""
    from scipy.special import betaincinv  # type: ignore[import-untyped]

    return betaincinv(a, b, u)


@register("beta")
def beta(frame: Frame, options: Beta) -> list[float]:
    """Quantiles in rho between its ends (as diffusers)."""
    high, low = (math.exp(-v) for v in frame.lam_range)
    u = quantile(options.a, options.b, ramp(frame.count_in_lam()))
    return frame.closed_in_lam(-np.log(low + u * (high - low)))


@register("beta_t", in_t=True)
def beta_t(frame: Frame, options: Beta) -> list[float]:
    """Quantiles in t at ``1 - i/N`` (as ComfyUI, which rounds to indices and drops repeated ones;
    here neither)."""
    u = quantile(options.a, options.b, 1.0 - np.arange(frame.steps) / frame.steps)
    inner = frame.warp(frame.bottom + (frame.base_top - frame.bottom) * u[1:])
    return frame.open([frame.top, *inner])

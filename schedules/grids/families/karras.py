"""The grid of Karras et al. 2022, arXiv 2206.00364, eq. 5: uniform in ``(sigma/alpha)^(1/rho)``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ....checks import between
from ..frame import Frame
from ..registry import register


@dataclass(frozen=True)
class Karras:
    """``rho`` > 0: the exponent. ``drop_last``: lay out one point more and drop the last."""

    rho: float = 7.0
    drop_last: bool = False

    def __post_init__(self) -> None:
        between("rho", self.rho, 0)


@register("karras")
def karras(frame: Frame, options: Karras) -> list[float]:
    """Uniform in ``(sigma/alpha)^(1/rho)``."""
    r = options.rho
    first, last = frame.lam_range
    high, low = math.exp(-first / r), math.exp(-last / r)
    return frame.in_lam(lambda u: -r * np.log(low + u * (high - low)), options.drop_last)

"""Grids in the half log-SNR: ``lam`` uniform, or along a power of the step's fraction.

lam is Lu et al. 2022, arXiv 2206.00927, section 3.4; exponential and polyexponential are
k-diffusion's ``get_sigmas_exponential`` and ``get_sigmas_polyexponential``. lam and exponential are
the same: uniform in lam is uniform in log rho.
"""

from __future__ import annotations

from dataclasses import dataclass

from ....checks import between
from ..frame import Frame
from ..registry import register


@dataclass(frozen=True)
class LogSNR:
    """``drop_last``: lay out one point more and drop the last."""

    drop_last: bool = False


@dataclass(frozen=True)
class PolyExponential:
    """``power`` > 0 of the fraction that falls from 1 to 0. ``drop_last``: lay out one point more
    and drop the last."""

    power: float = 1.0
    drop_last: bool = False

    def __post_init__(self) -> None:
        between("power", self.power, 0)


@register("polyexponential", aliases=("polynomial",))
def polyexponential(frame: Frame, options: PolyExponential) -> list[float]:
    """``log rho`` along ``u^power``, u uniform from 1 to 0."""
    first, last = frame.lam_range
    return frame.in_lam(lambda u: last + (first - last) * u**options.power, options.drop_last)


@register("lam", aliases=("logsnr", "logSNR"))
def lam(frame: Frame, options: LogSNR) -> list[float]:
    """Uniform in lam."""
    return polyexponential(frame, PolyExponential(1.0, options.drop_last))


@register("exponential")
def exponential(frame: Frame, options: LogSNR) -> list[float]:
    """Uniform in log rho, which is uniform in lam."""
    return lam(frame, options)

"""Grids uniform in a power of t, ``t^(1/power)``, on the shifted time of a flow.

uniform and normal have power 1, quadratic power 2 (Song et al. 2020, arXiv 2010.02502, appendix
D.2). sgm_uniform lays out one point more and drops the last, as Stability's generative-models do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....checks import GridError, between
from ..frame import Frame
from ..registry import NoOptions, register


@dataclass(frozen=True)
class Power:
    """``power`` > 0: uniform in ``t^(1/power)``. ``drop_last``: lay out one point more and drop the
    last."""

    power: float = 2.0
    drop_last: bool = False

    def __post_init__(self) -> None:
        between("power", self.power, 0)


@dataclass(frozen=True)
class Uniform:
    """``drop_last``: lay out one point more and drop the last."""

    drop_last: bool = False


def spaced(frame: Frame, q: float, drop_last: bool = False) -> list[float]:
    """Times uniform in ``t^(1/q)``. Raises GridError on schedules with t < 0."""
    if frame.bottom < 0.0:
        raise GridError(f"a power of t needs t >= 0; {frame.schedule!r} ends at t = {frame.bottom}")
    n = frame.steps + 1 if drop_last else frame.closed_count(False)
    first, last = frame.base_top ** (1.0 / q), frame.bottom ** (1.0 / q)
    values = np.linspace(first, last, n) ** q
    if drop_last:
        return frame.open([frame.top, *frame.warp(values[1:-1])])
    return frame.closed(frame.warp(np.clip(values, frame.bottom, frame.base_top)))


@register("power", in_t=True)
def power(frame: Frame, options: Power) -> list[float]:
    """Uniform in ``t^(1/power)``; power 1 is uniform, 2 quadratic."""
    return spaced(frame, options.power, options.drop_last)


@register("uniform", in_t=True, aliases=("time_uniform",))
def uniform(frame: Frame, options: Uniform) -> list[float]:
    """Uniform in t."""
    return spaced(frame, 1.0, options.drop_last)


@register("quadratic", in_t=True, aliases=("time_quadratic",))
def quadratic(frame: Frame, options: NoOptions) -> list[float]:
    """Uniform in ``sqrt t``."""
    return spaced(frame, 2.0)


@register("normal", in_t=True)
def normal(frame: Frame, options: NoOptions) -> list[float]:
    """Uniform in t (ComfyUI's name)."""
    return spaced(frame, 1.0)


@register("sgm_uniform", in_t=True)
def sgm_uniform(frame: Frame, options: NoOptions) -> list[float]:
    """``N + 1`` uniform times without the last."""
    return spaced(frame, 1.0, drop_last=True)

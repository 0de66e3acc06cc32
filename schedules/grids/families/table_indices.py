"""Grids of whole indices on tables (``DiscreteVP``), and their counterparts uniform in t elsewhere.

linspace, leading and trailing are the ``timestep_spacing`` of diffusers; simple and ddim_uniform
are ComfyUI's. T is the number of table entries up to the first time, N the number of steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ....checks import GridError, integer
from ...discrete import DiscreteVP
from ..frame import Frame
from ..registry import NoOptions, register
from .powers import Uniform, uniform


@dataclass(frozen=True)
class Leading:
    """``offset`` >= 0: the last index, on tables only. ``drop_last``: lay out one point more and
    drop the last."""

    offset: int = 0
    drop_last: bool = False

    def __post_init__(self) -> None:
        integer("offset", self.offset, 0)


@register("linspace", in_t=True)
def linspace(frame: Frame, options: Uniform) -> list[float]:
    """On tables ``round(linspace(0, T - 1, n))`` from the top, elsewhere uniform in t."""
    if not isinstance(frame.schedule, DiscreteVP):
        return uniform(frame, options)
    n = frame.steps + 1 if options.drop_last else frame.closed_count(False)
    values = (
        [float(v) for v in np.round(np.linspace(0.0, frame.top, n))[::-1]] if n > 1 else [frame.top]
    )
    values[0] = frame.top
    return frame.open(values[:-1]) if options.drop_last else frame.closed(values)


@register("leading", in_t=True)
def leading(frame: Frame, options: Leading) -> list[float]:
    """Multiples of the stride from the bottom, i = n - 1 .. 0; starts a stride below t_max.

    On tables ``i floor(T / n) + offset`` (one step starts at ``offset``), elsewhere
    ``t_min + i (t_max - t_min) / n`` (one step starts at t_max).
    """
    n = frame.steps + 1 if options.drop_last else frame.closed_count(False)
    if isinstance(frame.schedule, DiscreteVP):
        stride = math.floor(frame.train_steps / n)
        values = [float(i * stride + options.offset) for i in range(n - 1, -1, -1)]
    elif options.offset:
        raise GridError(f"offset={options.offset}: must be 0 except on tables (DiscreteVP)")
    elif n > 1:
        span = frame.base_top - frame.bottom
        values = frame.warp(frame.bottom + span * np.arange(n - 1, -1, -1) / n)
    else:
        values = [frame.top]
    if options.drop_last:
        return frame.open(values[:-1])
    return [*values[:-1], frame.bottom] if n > frame.steps else frame.open(values)


@register("trailing", in_t=True)
def trailing(frame: Frame, options: NoOptions) -> list[float]:
    """Strides from the top: ``round(T - i T / N) - 1`` on tables, ``t_max - i (t_max - t_min) / N``
    elsewhere."""
    i = np.arange(frame.steps)
    if isinstance(frame.schedule, DiscreteVP):
        big_t = frame.train_steps
        rest = [float(v) for v in np.round(big_t - i[1:] * (big_t / frame.steps)) - 1.0]
    else:
        rest = frame.warp(frame.base_top - (frame.base_top - frame.bottom) * i[1:] / frame.steps)
    return frame.open([frame.top, *rest])


@register("simple", in_t=True)
def simple(frame: Frame, options: NoOptions) -> list[float]:
    """``T - 1 - floor(i T / N)`` on tables, trailing elsewhere."""
    if not isinstance(frame.schedule, DiscreteVP):
        return trailing(frame, options)
    return frame.open(
        [frame.top - math.floor(i * frame.train_steps / frame.steps) for i in range(frame.steps)]
    )


@register("ddim_uniform", in_t=True)
def ddim_uniform(frame: Frame, options: NoOptions) -> list[float]:
    """The first N of the indices ``1 + i floor(T / N)`` on tables, leading elsewhere."""
    if isinstance(frame.schedule, DiscreteVP):
        stride = math.floor(frame.train_steps / frame.steps)
        return frame.open([float(1 + i * stride) for i in range(frame.steps - 1, -1, -1)])
    return leading(frame, Leading())

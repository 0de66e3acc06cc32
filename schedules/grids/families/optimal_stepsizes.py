"""Optimal Stepsize for Diffusion Sampling: flow times optimised for a model.

Pei et al. 2025, arXiv 2503.21774, and its repository. The lists leave out the final 0; the 0.001 at
their end stands for it where a list is interpolated to another length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ....checks import choice
from ...flow import Flow
from ..frame import Frame, resample
from ..registry import register

TABLES: dict[str, tuple[float, ...]] = {
    "flux": (0.9968, 0.9886, 0.9819, 0.975, 0.966, 0.9471, 0.9158, 0.8287, 0.5512, 0.2808, 0.001),
    "wan": (
        *(1.0, 0.997, 0.995, 0.993, 0.991, 0.989, 0.987, 0.985, 0.98, 0.975, 0.973),
        *(0.968, 0.96, 0.946, 0.927, 0.902, 0.864, 0.776, 0.539, 0.208, 0.001),
    ),
}


@dataclass(frozen=True)
class OptimalStepsizes:
    """``table``: the published list, ``flux`` or ``wan``."""

    table: str = "flux"

    def __post_init__(self) -> None:
        choice("oss table", self.table, TABLES)


@register("oss", aliases=("optimal_steps",))
def oss(frame: Frame, options: OptimalStepsizes) -> list[float]:
    """A published list of flow times, interpolated linearly in log t over the index.

    On Flow the list is used as published (its first time may be below t_max). Elsewhere its lam are
    stretched to the schedule's range and interpolated linearly in lam.
    """
    table = np.asarray(TABLES[options.table])
    if isinstance(frame.schedule, Flow):
        begin = frame.top if frame.top < frame.schedule.t_max else table[0]
        points = resample(np.log(table), frame.steps + 1, math.log(begin))
        return frame.open([float(begin), *(math.exp(v) for v in points[1:-1])])
    whole = Frame(frame.schedule, frame.steps, frame.schedule.t_max, frame.final)
    (first, bottom), high = whole.lam_range, min(table[0], 0.999)
    lams = np.log1p(-np.minimum(table, high)) - np.log(np.minimum(table, high))
    lams = first + (bottom - first) * (lams - lams[0]) / (lams[-1] - lams[0])
    points = -resample(-lams, frame.steps + 1, -frame.lam_range[0])
    return frame.open([frame.top, *frame.times_at(points[1:-1])])

"""Align Your Steps: noise-to-signal ratios optimised for a model.

Sabour et al. 2024, arXiv 2404.14507; the lists are those of its project page, without the final 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....checks import choice
from ..frame import Frame, resample
from ..registry import register

TABLES: dict[str, tuple[float, ...]] = {
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113),
    "svd": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034),
}


@dataclass(frozen=True)
class AlignYourSteps:
    """``table``: the published list, ``sd15``, ``sdxl`` or ``svd``."""

    table: str = "sd15"

    def __post_init__(self) -> None:
        choice("ays table", self.table, TABLES)


@register("ays", aliases=("align_your_steps",))
def ays(frame: Frame, options: AlignYourSteps) -> list[float]:
    """A published list of rho, interpolated linearly in log rho over the index.

    The first entry is moved to the schedule's first rho and the last one kept, log rho between
    them stretched; where the list ends outside the schedule, its last entry is moved to nine tenths
    of the lam range.
    """
    table = TABLES[options.table]
    whole = Frame(frame.schedule, frame.steps, frame.schedule.t_max, frame.final)
    (first, bottom), logs = whole.lam_range, -np.log(table)
    last = logs[-1] if first < logs[-1] < bottom else first + 0.9 * (bottom - first)
    lams = first + (last - first) * (logs - logs[0]) / (logs[-1] - logs[0])
    points = -resample(-lams, frame.steps, -frame.lam_range[0])
    return frame.open([frame.top, *frame.times_at(points[1:])])

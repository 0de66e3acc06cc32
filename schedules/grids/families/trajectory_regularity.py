"""GITS: levels that a dynamic programme placed where trajectories turn, for a model.

Chen et al. 2024, arXiv 2405.11326; the list is the one that the README of the authors' repository
(zju-pi/diff-sampler, gits-main) gives for the CIFAR-10 model of EDM, 80 to 0.002 in six steps.
``engine.tuning.gits`` makes such a list for any model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....checks import choice
from ..frame import Frame, resample
from ..registry import register

TABLES: dict[str, tuple[float, ...]] = {
    "cifar10": (80.0, 10.9836, 3.8811, 1.584, 0.5666, 0.1698, 0.002)
}


@dataclass(frozen=True)
class TrajectoryRegularity:
    """``table``: the published list, ``cifar10``."""

    table: str = "cifar10"

    def __post_init__(self) -> None:
        choice("gits table", self.table, TABLES)


@register("gits")
def gits(frame: Frame, options: TrajectoryRegularity) -> list[float]:
    """A published list of rho, interpolated linearly in log rho over the index and stretched in
    log rho to the schedule's range. On EDM with ``final="sigma_min"`` six steps are the list."""
    logs = -np.log(TABLES[options.table])
    first, last = Frame(frame.schedule, frame.steps, frame.schedule.t_max, frame.final).lam_range
    lams = first + (last - first) * (logs - logs[0]) / (logs[-1] - logs[0])
    return frame.closed_in_lam(-resample(-lams, frame.count_in_lam(), -frame.lam_range[0]))

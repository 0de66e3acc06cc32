"""The levels of "Hyperparameters are all you need" (arXiv 2510.02390), for runs of 5 to 8 steps of
Stable Diffusion that stop before sigma = 0.

Of the Karras levels ``K_0 > .. > K_{n-1}`` of exponent p the method keeps the first and K_j, and
spaces the labels t (indices of the table of betas) between them:

    t_k = (t_a^{1/q} + k / M (t_b^{1/q} - t_a^{1/q}))^q,   t_a = t(K_0), t_b = t(K_j), q = 1.2

It gives (n, p, j) = (8, 5, 6) for M = 5 and 6 steps, and (12, 7, 8) for 7 and 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ....checks import choice
from ...discrete import DiscreteVP
from ...vp import VPLinear
from ..frame import Frame
from ..registry import register

#: q, the exponent of the labels
_POWER = 1.2


class _Levels(NamedTuple):
    """Number of Karras levels, their exponent, and the index of the one that is kept."""

    n: int
    p: float
    j: int


#: steps up to which the first setting is used
_FEW = 6
TABLES: dict[str, tuple[_Levels, _Levels]] = {
    "sd15": (_Levels(8, 5.0, 6), _Levels(12, 7.0, 8)),
    "sd15_full": (_Levels(8, 5.0, 6), _Levels(12, 7.0, 9)),
    "sdxl": (_Levels(8, 5.0, 6), _Levels(12, 12.0, 8)),
}


@dataclass(frozen=True)
class Hyperparameters:
    """``table``: the published setting, ``sd15``, ``sd15_full`` (lower last level from 7 steps on)
    or ``sdxl`` (Karras exponent 12 from 7 steps on)."""

    table: str = "sd15"

    def __post_init__(self) -> None:
        choice("hyperparameters table", self.table, TABLES)


@register("hyperparameters")
def hyperparameters(frame: Frame, options: Hyperparameters) -> list[float]:
    """Labels that are a power grid between the first level and a Karras level; the run ends there
    with ``final="sigma_min"``, as published. ``final="zero"`` adds the step to sigma = 0, of M + 1.

    On tables (``DiscreteVP``) the label is the index, elsewhere the time of ``VPLinear()`` at the
    same rho. From a ``start`` below the last level that level is at nine tenths of the lam range.
    """
    count = frame.count_in_lam()
    n, p, j = TABLES[options.table][count - 1 > _FEW]
    whole = Frame(frame.schedule, frame.steps, frame.schedule.t_max, frame.final)
    high, low = (math.exp(-lam / p) for lam in whole.lam_range)
    first, bottom = frame.lam_range
    last = -p * math.log(high + j / (n - 1) * (low - high))
    if last <= first:
        last = first + 0.9 * (bottom - first)
    times = [frame.top, *_between(frame, first, last, count)][:count]
    return times if count > frame.steps else frame.open(times)


def _between(frame: Frame, first: float, last: float, count: int) -> list[float]:
    """The times of the power grid of labels after its first, at least one."""
    labels: Any = frame.schedule if isinstance(frame.schedule, DiscreteVP) else VPLinear()
    ends = np.asarray(labels.t_of_lam(np.array([first, last]))) ** (1.0 / _POWER)
    points = np.linspace(ends[0], ends[1], max(count, 2))[1:] ** _POWER
    if labels is frame.schedule:
        return [float(t) for t in points]
    return frame.times_at(labels.lam(points))

"""The exact denoiser of a finite data set on the PFGM++ path (Xu et al. 2023, arXiv 2302.04265, eq.
6).

    E[x0 | x] = sum_i w_i x_i,     w_i ~ (|x - x_i|^2 + r^2)^{-(N + D) / 2},     r = sigma sqrt(D),

where N is the number of elements of a sample. As D grows the weights approach the softmax of
``Empirical``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..checks import ArgumentError
from ..schedules.pfgmpp import PFGMPP
from .empirical import Empirical
from .exact import Levels, softmax


class EmpiricalPFGMPP(Empirical):
    """Denoiser of the points ``data`` (N, *shape) on a ``PFGMPP`` schedule; arguments as in
    ``Empirical``. Raises ValueError for another schedule."""

    def __init__(
        self, data: Tensor, schedule: PFGMPP, prediction: str = "x0", labels: Tensor | None = None
    ) -> None:
        if not isinstance(schedule, PFGMPP):
            raise ArgumentError(f"the schedule is {schedule!r}; allowed: PFGMPP")
        super().__init__(data, schedule, prediction, labels)
        self.power = 0.5 * (data[0].numel() + schedule.D)
        self.added = float(schedule.D)

    def _weights(self, flat: Tensor, at: Levels, index: Tensor | None) -> Tensor:
        direct = "donot_use_mm_for_euclid_dist"
        squares = torch.cat(
            [
                torch.cdist(flat, block, compute_mode=direct) ** 2
                for block in self._blocks(flat.dtype, flat.device)
            ],
            1,
        )
        if index is not None and self.labels is not None:
            other = (index[:, None] >= 0) & (self.labels.to(flat.device) != index[:, None])
            squares = squares.masked_fill(other, math.inf)
        least = squares.detach().amin(-1, keepdim=True)
        r2 = at.sigma**2 * self.added
        nearest = torch.where(squares == least, 0.0, -math.inf).to(squares)
        end = at.sigma == 0.0
        # log1p of the excess: no cancellation at large r
        ratio = (squares - least) / torch.where(end, 1.0, least + r2)
        return softmax(torch.where(end, nearest, -self.power * torch.log1p(ratio)))

"""RePaint: replacement, with moves back to more noise."""

from __future__ import annotations

from typing import Any

from ...checks import integer
from ...models.denoiser import Denoiser
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from .registry import OWN, register
from .score_sde import ScoreSDE
from .travel import repainted


@register(
    "repaint",
    source="Lugmayr et al. 2022, arXiv 2201.09865, algorithm 1",
    form="plan",
    needs=("pinverse", "noiseless", "linear"),
    exact="none; nearer with more repeats",
    sampler=OWN,
)
class RePaint(ScoreSDE):
    """RePaint: ancestral steps with the replacement of ``ScoreSDE``, which go back to more noise
    again and again, so that what is not measured can fit what is.

        x_s = (alpha_s / alpha_t) x_t + sqrt(sigma_s^2 - (alpha_s sigma_t / alpha_t)^2) xi,   s > t

    at every ``length``-th node, ``length`` nodes up, ``repeats - 1`` times (Lugmayr et al. 2022,
    arXiv 2201.09865, algorithm 1). The measured part is replaced where the model is called, and at
    the end; this is the published order in law. A plan of its own: N steps with N > length make
    ``N + length (repeats - 1) ceil((N - length) / length)`` network calls (250 steps: 2410), each
    with 1 operator call and 1 of the pseudo-inverse.
    """

    def __init__(
        self, denoiser: Denoiser, likelihood: Any, length: int = 10, repeats: int = 10
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Constraint with a linear operator that has a pseudo-inverse, such as Inpaint.
        length: nodes of a move up (j of the paper), at least 1.
        repeats: times that each part is run (r of the paper), at least 1; 1 is ``ScoreSDE``.
        """
        self.length, self.repeats = integer("length", length, 1), integer("repeats", repeats, 1)
        super().__init__(denoiser, likelihood)

    def plan(self, grid: Grid) -> Plan:
        """The steps on this grid."""
        return repainted(grid, self.length, self.repeats, "repaint")

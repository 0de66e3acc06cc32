"""FlowDPS: data steps on the prediction, and part of the noise drawn anew."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, choice, integer, number
from ...models.denoiser import Denoiser
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from .counts import Counts
from .dps import unit
from .measurement import Measurement
from .posterior import Levels
from .prediction import Prediction
from .registry import OWN, register
from .split import Split


@register(
    "flow_dps",
    source="Kim et al. 2025, arXiv 2503.08136, algorithm 1",
    form="plan",
    needs=("adjoint",),
    exact="none",
    sampler=OWN,
)
class FlowDPS(Split):
    """Flow-driven posterior sampling: the prediction of the data takes some steps towards the
    measurement, the prediction of the noise is partly drawn anew.

        D_y = D - zeta grad |y - A(D)|, ``iterations`` times,  D' = (1 - r_t) D + r_t D_y
        x_s = alpha_s D' + sigma_s (sqrt(r_s) eps(x_t) + sqrt(1 - r_s) xi)
        r = sigma / (alpha + sigma)

    (Kim, Kim & Ye 2025, arXiv 2503.08136, algorithm 1: r = t on ``Flow``; here any path.) No
    gradient of the network. ``step="norm"`` is the published step, of a length zeta in the units of
    the norm's gradient, of each sample by itself; ``"squared"`` is ``D + zeta A^T (y - A D)``,
    which ends at the nearest point with the measurement for zeta below ``2 / |A|^2``. D' is that of
    the data also where alpha = 0. Its steps are a plan of its own on the grid. Cost of a step: 1
    network call, ``iterations`` operator and adjoint calls.
    """

    at_start = True

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        zeta: float = 0.5,
        iterations: int = 3,
        step: str = "squared",
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Gaussian or Constraint; sigma_y is not used, so the samples fit the noise too.
        zeta: length of a step, > 0.
        iterations: steps, at least 1.
        step: "squared" or "norm".
        """
        self.zeta, self.iterations = number("zeta", zeta, 0.0), integer("iterations", iterations, 1)
        self.step = choice("step", step, ("squared", "norm"))
        if not self.zeta:
            raise ArgumentError("zeta=0: the measurement would not be used; must be > 0")
        super().__init__(denoiser, likelihood)

    @override
    def spent(self) -> Counts:
        return Counts(1, 0, self.iterations, self.iterations)

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        x0 = p.value
        for _ in range(self.iterations):
            own = Measurement(self.likelihood, self.data(x0), p.counts, p.graph)
            pull = own.residual if self.step == "squared" else unit(own.residual)
            x0 = x0 + self.zeta * own.adjoint(pull)
        r = at.column([share(a, s) for a, s in zip(at.alphas, at.sigmas, strict=True)])
        return p.value + r * (x0 - p.value)

    def plan(self, grid: Grid) -> Plan:
        """The steps on ``grid``."""
        b = PlanBuilder(grid.nodes, name="flow_dps")
        x = b.start(grid[0])
        for s, t in grid.pairs():
            data, own = b.evaluate_kinds(x, s, (("x0", "main"), ("x0", "uncond")))
            if not t.sigma:
                x = b.at(t, t.alpha * data)
                continue
            r = share(t.alpha, t.sigma)
            kept, fresh = t.sigma * math.sqrt(r), t.sigma * math.sqrt(1.0 - r)
            y = t.alpha * data + (kept / s.sigma) * (x - s.alpha * own)
            x = b.at(t, y + fresh * b.noise(s, t) if fresh else y)
        return b.finish(x)


def share(alpha: float, sigma: float) -> float:
    """``sigma / (alpha + sigma)``, the time of the straight path with the same noise level."""
    return sigma / (alpha + sigma)

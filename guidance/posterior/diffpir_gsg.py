"""DiffPIR with smoothed gradients of the operator."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, between, integer, number
from ...models.denoiser import Denoiser
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from . import demands
from .black_box import BlackBox
from .counts import Counts
from .posterior import Levels
from .prediction import Prediction
from .registry import OWN, register
from .split import split_plan


@register(
    "diffpir_gsg",
    source="Zheng et al. 2025, arXiv 2503.11043 (DiffPIR-GSG); DiffPIR of arXiv 2305.08995",
    needs=("noise",),
    exact="none",
    sampler=OWN,
)
class DiffPIRGSG(BlackBox):
    """DiffPIR without derivatives of anything: k gradient steps in the place of the proximal map,
    with gradients estimated from values of the operator.

        x <- x - (g(x) + 2 rho (x - D)) / (2 (rho + bound^2)),   from x = D,
        g ~ grad |y - A(x)|^2,   rho = lam sigma_y^2 alpha^2 / sigma^2

    (Zheng et al. 2025, arXiv 2503.11043, DiffPIR-GSG.) The published step has the length 1 / (2
    rho) and is not stable where rho is small; here ``bound``, that of the norm of the operator's
    derivative, limits it. The steps are those of ``DiffPIR``; it is also a denoiser that every
    sampler runs. Cost of a call: 1 network call, and for each gradient 1 operator call and 1
    (forward) or 2 (central) for each 32 directions, of 32 rows for each sample.
    """

    differentiates = False

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        lam: float = 7.0,
        zeta: float = 0.3,
        iterations: int = 1,
        bound: float | None = None,
        directions: int = 128,
        mu: float = 0.01,
        form: str = "central",
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Gaussian, with any operator.
        lam, zeta: as of ``DiffPIR``.
        iterations: k, at least 1.
        bound: on the norm of the operator's derivative, > 0; None: its ``norm_bound``.
        directions, mu, form: of ``guidance.Smoothing``.
        """
        self.lam, self.zeta = float(between("lam", lam, 0.0)), number("zeta", zeta, 0.0, 1.0)
        self.iterations = integer("iterations", iterations, 1)
        super().__init__(denoiser, likelihood, directions, mu, form)
        known = self.likelihood.operator.norm_bound if bound is None else bound
        if known is None:
            raise ArgumentError(
                f"{self.likelihood.operator!r} has no norm_bound: give bound=, about the largest "
                "change of the measurement by a change of the sample of length 1"
            )
        self.bound = float(between("bound", known, 0.0))

    @override
    def accepted(self, likelihood: Any) -> Any:
        made = super().accepted(likelihood)
        demands.noisy(made, type(self).__name__)
        return made

    @override
    def spent(self) -> Counts:
        return Counts(1, 0, self.iterations * self.values, 0)

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        noise, levels = self.likelihood.sigma_y**2, zip(at.alphas, at.sigmas, strict=True)
        rho = at.column([self.lam * noise * a * a / (s * s) if s else math.inf for a, s in levels])
        x = p.value
        for _ in range(self.iterations):
            _, slope = self.slope(x, at, p.counts)
            x = x - (0.5 * slope + rho * (x - p.value)) / (rho + self.bound**2)
        return x

    def plan(self, grid: Grid) -> Plan:
        """The steps on this grid."""
        return split_plan(grid, "diffpir_gsg", math.sqrt(self.zeta), "full", own="main")

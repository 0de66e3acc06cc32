"""PnP-Flow: data steps, noise drawn anew, and the model as a denoiser."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import between, integer, number
from ...models.denoiser import Denoiser
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from .counts import Counts
from .flow_dps import share
from .measurement import Measurement
from .posterior import Levels
from .prediction import Prediction
from .registry import OWN, register
from .split import Split


@register(
    "pnp_flow",
    source="Martin et al. 2024, arXiv 2410.02423, algorithm 3",
    form="plan",
    needs=("adjoint",),
    exact="none",
    sampler=OWN,
)
class PnPFlow(Split):
    """Plug-and-play flow matching: a data step, noise drawn anew, and the model as a denoiser.

        z = x - zeta r_t^power A^T (A x - y)
        x <- mean_k D(alpha_t z + sigma_t xi_k),    r = sigma / (alpha + sigma)

    (Martin, Gagneux, Hagemann & Steidl 2024, arXiv 2410.02423, algorithm 3: r = 1 - t in its
    direction of time, the straight path; here any path.) No gradient of the network. A method for
    one good reconstruction: a mean over ``samples`` noises in each step leaves less spread than the
    posterior has. The first step is the model's, from noise alone, and the last prediction is the
    sample. Its steps are a plan of its own on the grid; the data step of an A that is not linear is
    taken at each of the predictions before their mean. Cost of a step: ``samples`` network,
    operator and adjoint calls, of the first one 1.
    """

    at_start = True

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        zeta: float = 1.0,
        power: float = 1.0,
        samples: int = 5,
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Gaussian or Constraint; sigma_y is not used.
        zeta: length of a data step, > 0; up to ``1 / |A|^2``.
        power: of r, at least 0; 0: steps of one length.
        samples: K, noises of a step.
        """
        self.zeta, self.power = float(between("zeta", zeta, 0.0)), number("power", power, 0.0)
        self.noises = integer("samples", samples, 1)
        super().__init__(denoiser, likelihood)

    @override
    def spent(self) -> Counts:
        return Counts(1, 0, 1, 1)

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        own = Measurement(self.likelihood, self.data(p.value), p.counts, p.graph)
        return p.value + self.zeta * own.adjoint(own.residual)

    def plan(self, grid: Grid) -> Plan:
        """The steps on ``grid``."""
        b = PlanBuilder(grid.nodes, name="pnp_flow")
        states = [b.start(grid[0])]
        for s, t in grid.pairs():
            pairs = [b.evaluate_kinds(x, s, (("x0", "main"), ("x0", "uncond"))) for x in states]
            weight = share(t.alpha, t.sigma) ** self.power if t.sigma else 0.0
            total = None
            for data, own in pairs:
                part = (1.0 - weight) * own + weight * data
                total = part if total is None else total + part
            assert total is not None
            mean = (1.0 / len(pairs)) * total
            if not t.sigma:
                return b.finish(b.at(t, t.alpha * mean))
            states = [b.at(t, t.alpha * mean + t.sigma * b.noise(s, t)) for _ in range(self.noises)]
        return b.finish(states[0])

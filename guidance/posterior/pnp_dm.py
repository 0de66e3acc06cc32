"""PnP-DM: a split Gibbs sampler."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from ...models.denoiser import Denoiser
from ...plans.running.step_state import StepState
from ...schedules.node import Node
from . import demands
from .annealing import Annealing
from .registry import OWN, register
from .spread import Spread


@register(
    "pnp_dm",
    source="Wu et al. 2024, arXiv 2405.18782, algorithm 1",
    form="plan",
    needs=("adjoint", "noise"),
    exact="any data as the last level falls and paths and sweeps grow",
    sampler=OWN,
)
class PnPDM(Annealing):
    """Plug-and-play diffusion: Gibbs sampling of x and of z, which are joined by ``|x - z|^2 / (2
    rho^2)``; rho falls along the grid.

        z ~ N(y; A(z), sigma_y^2) N(z; x, rho^2 I), normed
        x ~ p(x0 = x | x0 + rho n = z), by the reverse SDE from the level rho

    (Wu et al. 2024, arXiv 2405.18782, algorithm 1.) ``alpha z`` is the state at the node rho =
    sigma / alpha. Published levels fall from 10 to .1 by factors of .9: ``sigmas=`` gives them, and
    ``stay`` further sweeps at the last one. z is drawn exactly for linear operators, by Langevin
    steps for others. Where alpha = 0 the path has one call.

    A plan of its own: at each level ``calls`` network calls, and, but for the last sweep, 1
    operator and 1 adjoint call, ``iterations`` more of both for operators without ``gram_solve``;
    or ``langevin`` of both.
    """

    tau = 1.0

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        calls: int = 10,
        stay: int = 0,
        inner: str | None = None,
        langevin: int = 100,
        rate: float = 0.1,
        iterations: int = 10,
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Gaussian.
        calls: network calls of one sweep.
        stay: further sweeps at the last noisy level.
        inner: "exact" or "langevin"; None: exact for linear operators.
        langevin: Langevin steps of a draw.
        rate: length of a Langevin step, in units of ``1 / (|A|^2 / sigma_y^2 + 1 / rho^2)``.
        iterations: of conjugate gradients.
        """
        super().__init__(denoiser, likelihood, calls, stay, inner, langevin, rate, iterations)

    @override
    def accepted(self, likelihood: Any) -> Any:
        made = super().accepted(likelihood)
        demands.noisy(made, type(self).__name__)
        return made

    @override
    def draws(self, paths: int, end: Node) -> int:
        return paths if end.sigma else paths - 1

    @override
    def anew(self, step: StepState, x0: Tensor, level: Node) -> Tensor:
        t = step.next_node
        if not t.sigma:
            return x0
        return t.alpha * self.draw(step, x0, Spread(t.rho**2), self.likelihood.sigma_y)

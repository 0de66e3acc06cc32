"""DAPS: decoupled annealing."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, between
from ...models.denoiser import Denoiser
from ...plans.running.step_state import StepState
from ...schedules.node import Node
from .annealing import Annealing
from .registry import OWN, register
from .spread import PriorSpread, Spread


@register(
    "daps",
    source="Zhang et al. 2024, arXiv 2407.01521, algorithm 1",
    form="plan",
    needs=("adjoint", "noise"),
    exact="Gaussian data with their covariance= and calls=1; many steps",
    sampler=OWN,
)
class DAPS(Annealing):
    """Decoupled annealing: at each noise level x0 is drawn anew given the state and the
    measurement, and noise is added to the next level.

        x0h = end of the flow from the state;  x0 ~ N(x0h, r^2 I) N(y; A(x0), tau^2), normed
        x_t = alpha_t x0 + sigma_t xi,   r = sigma_s / alpha_s at the level of the state

    (Zhang et al. 2024, arXiv 2407.01521, algorithm 1.) The draw is exact for linear operators, and
    by Langevin steps for others, with the gradient of ``|y - A(x)|^2 / (2 tau^2)``; public code
    leaves out the 2, which is noise of tau / sqrt(2). r is a guess around the end of the flow,
    which leaves too large a spread; with the ``covariance`` of the data and ``calls=1`` the law of
    x0 given the state is that of Gaussian data, and the samples are those of the posterior.

    A plan of its own: at each level ``calls`` network calls on a path to the data (1 at alpha = 0,
    and at the last levels of the schedule), and 1 operator and 1 adjoint call, ``iterations`` more
    of both for operators without ``gram_solve`` or with ``covariance``; or ``langevin`` of both.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        calls: int = 5,
        tau: float | None = None,
        covariance: Tensor | None = None,
        inner: str | None = None,
        langevin: int = 100,
        rate: float = 0.1,
        iterations: int = 10,
    ) -> None:
        """Args:
        denoiser: the model.
        likelihood: Gaussian; a Constraint with ``tau``.
        calls: network calls of one level.
        tau: noise of the measurement in the draws, > 0; None: sigma_y.
        covariance: of the data, (d, d), in the place of ``r^2 I``; for linear operators.
        inner: "exact" or "langevin"; None: exact for linear operators.
        langevin: Langevin steps of a draw.
        rate: length of a Langevin step, in units of ``1 / (|A|^2 / tau^2 + 1 / r^2)``, up to 1.
        iterations: of conjugate gradients.
        """
        self.tau_y = None if tau is None else float(between("tau", tau, 0.0))
        self.prior = None if covariance is None else PriorSpread.of(covariance)
        super().__init__(denoiser, likelihood, calls, 0, inner, langevin, rate, iterations)
        if self.prior is not None and self.inner == "langevin":
            raise ArgumentError("covariance= is for exact draws, of linear operators")

    @override
    def accepted(self, likelihood: Any) -> Any:
        made = super().accepted(likelihood)
        if not made.sigma_y and self.tau_y is None:
            raise ArgumentError(
                f"DAPS divides by tau^2, and {made!r} has no noise: give tau=, or use a method for "
                "exact constraints, such as ddnm or ddrm"
            )
        return made

    @override
    def samples(self, shape: Any) -> int | None:
        found = super().samples(shape)
        size = 1
        for n in shape:
            size *= n
        if self.prior is not None and len(self.prior.variances) != size:
            raise ArgumentError(
                f"covariance is for {len(self.prior.variances)} elements, a sample has {size}"
            )
        return found

    @property
    @override
    def more(self) -> int:
        closed = self.likelihood.operator.solvable and self.prior is None
        return 0 if closed else self.iterations

    @override
    def anew(self, step: StepState, x0: Tensor, level: Node) -> Tensor:
        t = step.next_node
        # r is infinite at alpha = 0: there that of the next level
        rho = level.rho if level.alpha else t.rho
        spread = Spread(rho**2) if self.prior is None else self.prior.given(level.rho)
        noise = self.likelihood.sigma_y if self.tau_y is None else self.tau_y
        x = self.draw(step, x0, spread, noise)
        if not t.sigma:
            return x
        return t.alpha * x + t.sigma * self.drawn(step, 2, self.slots)

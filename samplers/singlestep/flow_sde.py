"""The SDE of a flow with tunable noise, for sampling and for reinforcement learning of flow models;
works on any path, including VP.

The strength tau is constant (``plans.weights``). Flow-GRPO (Liu et al. 2025, arXiv 2505.05470, eqs.
7-9) uses ``g = a sqrt(t / (1 - t))`` in ``dx = (u - g^2/2 score) dt + g dW`` on the straight path.
Since ``g^2 = 2 tau^2 sigma^2 |dlam/dt|`` and ``|dlam/dt| = 1 / (t (1 - t))``, this is exactly the
constant ``tau^2 = a^2 / 2``. There are two forms:

    exact    x_t = (sigma_t/sigma_s) e^{-tau^2 h} x + sum_j b_j D_j
             + sigma_t sqrt(1 - e^{-2 tau^2 h}) z, which keeps the norm of every marginal
    euler    Euler-Maruyama in t, Flow-GRPO's own, which keeps it only as h -> 0

The exact form of order 1 is the sampler Precise (Zou et al. 2026, arXiv 2605.23522), whose fresh
noise is ``sigma_t sqrt(1 - (rho_t / rho_s)^{eta^2})`` with the mean of the data held over the step:
its eta is a. ``flow_cps`` is Flow-CPS, whose fresh noise does not depend on the step.

``window`` restricts the noise to some steps; the others solve the ODE (``windows``). ``tau`` may be
given for each step. The step to sigma = 0 draws no noise. ``plan.transitions`` gives means and
standard deviations, ``fewstep.transition_log_prob`` log-probabilities. To branch a trajectory, run
the plan of another grid from a recorded state. For constant g (DanceGRPO) use ``interpolant_sde``
with ``diffusion="constant"``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...checks import ArgumentError, choice, integer, number
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ..multistep.recurrence import Step, multistep
from ..multistep.weight_rules import Interpolation
from ..option_names import option
from ..registry import register
from .interpolants import data_step, diffusion_of_tau, em_step
from .windows import check_reach, check_window, in_window


def tau_of_a(a: float) -> float:
    """Convert Flow-GRPO's noise level a to tau = ``a / sqrt(2)``."""
    return number("a", a, 0.0, 1e3) / math.sqrt(2.0)


@dataclass(frozen=True)
class FlowSDE:
    """Options of ``flow_sde``.

    ``tau``: diffusion strength, one number or one per step (Flow-GRPO's a is ``tau sqrt(2)``).
    ``form``: exact or euler; ``order``: number of past predictions in the exact form, 1 or 2;
    ``window``: (first, stop), the steps that draw noise; () means all.
    """

    tau: float | tuple[float, ...] = option(
        0.7 / math.sqrt(2.0), also={"a": tau_of_a}, was=("taus",), ranked=True
    )
    form: str = "exact"
    order: int = 1
    window: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.tau, (list, tuple)):
            object.__setattr__(self, "tau", tuple(self.tau))
        for tau in self.strengths:
            number("tau", tau, 0.0, 1e3)
        choice("form", self.form, ("exact", "euler"))
        integer("order", self.order, 1, 2)
        if self.form == "euler" and self.order != 1:
            raise ArgumentError(
                f"order={self.order!r} with form='euler': must be 1, the order of Euler-Maruyama; "
                "form='exact' allows 1 or 2"
            )
        object.__setattr__(self, "window", check_window(self.window))

    @property
    def strengths(self) -> tuple[float, ...]:
        """The numbers in ``tau``."""
        return self.tau if isinstance(self.tau, tuple) else (self.tau,)

    def of_steps(self, count: int) -> tuple[float, ...]:
        """Strength of each of ``count`` steps. Raises ArgumentError if ``tau`` has another
        length, or ``window`` begins after them."""
        check_reach(self.window, count)
        given = self.tau if isinstance(self.tau, tuple) else (self.tau,) * count
        if len(given) != count:
            raise ArgumentError(f"tau={self.tau!r}: {len(given)} values for {count} steps")
        return tuple(in_window(tau, self.window, i) for i, tau in enumerate(given))


@register(
    "flow_sde",
    order=lambda o: o.order,
    source="Liu et al. 2025, arXiv 2505.05470, eq. 9; exact transition of plans.weights",
    tau=lambda o: max(o.strengths, default=0.0),
    allow="asymptotic",
    alpha_zero=True,
    on=("flow", "vp"),
    variants=({"order": 2}, {"tau": 1.0}, {"form": "euler"}),
)
def flow_sde(b: PlanBuilder, grid: Grid, options: FlowSDE) -> Plan:
    """The SDE of a flow with tunable noise: exact Gaussian transitions, or Flow-GRPO's
    Euler-Maruyama."""
    taus = options.of_steps(grid.steps)
    if options.form == "exact":
        steps = [Step(Interpolation(tau=tau), options.order) for tau in taus]
        return multistep(b, grid, steps, lower_order_final=False)
    x = b.start(grid[0])
    for tau, (s, t) in zip(taus, grid.pairs(), strict=True):
        x = (
            data_step(b, x, s, t)
            if t.sigma == 0.0
            else em_step(b, x, s, t, diffusion_of_tau(tau, s, t))
        )
    return b.finish(x)

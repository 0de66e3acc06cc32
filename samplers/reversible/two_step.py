"""Exactly invertible two-step samplers: the next state is the state before the last one plus a
slope at the last one, so the step can be solved for the former.

With ``y = x / alpha``, the noise prediction ``e_i = eps(x_i, t_i)``, and steps
``a = rho_i - rho_{i-1}``, ``b = rho_{i+1} - rho_i`` (both negative),

    O-BELM   y_{i+1} = (b/a)^2 y_{i-1} + (1 - (b/a)^2) y_i + (b/a) (a + b) e_i
    BDIA     x_{i+1} = Phi(x_i; i+1) + gamma (x_{i-1} - Phi(x_i; i-1))
    reversible Heun (Kidger et al. 2021, arXiv 2105.13493)
             z_i = (y_i + y_{i-1} + a e_i) / 2    of the y of BDIA with gamma = 1

where ``Phi(x_i; j)`` is the DDIM step from node i to node j. O-BELM (Wang et al. 2024, arXiv
2410.07273) is the explicit midpoint rule on uneven steps; ``flow_belm`` is the same rule on
``dx/dt = u``, with x, t and the velocity for y, rho and e, which can begin at alpha = 0. BDIA with
gamma = 1 (Zhang et al. 2023, arXiv 2307.10829) is the rule without the correction for uneven
steps. The first step is DDIM, or Euler. All have second order and no damping: where the network is
stiff, an error that alternates from step to step grows, so they need more steps than damped ones.

Undoing a step divides by gamma, or by (b/a)^2: with gamma < 1 rounding grows by up to 1/gamma a
step. Measured in float64 on an exact mixture over 50 steps, the round trip closes to 3e-6 with
gamma = 0.5, and to 1e-15 with gamma = 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...checks import number
from ...plans.builder import Expression, PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..multistep.pndm import transfer
from ..registry import NoOptions, register
from ..singlestep.frames import Frame, RhoFrame, TimeFrame, finite_time

#: (state before, state, prediction, their nodes, next node) -> the next state
TwoStep = Callable[[Expression, Expression, Expression, Node, Node, Node], Expression]


@dataclass(frozen=True)
class BDIA:
    """Options of BDIA.

    ``gamma``: weight of the state before the last one, up to 1; second order at 1, else first.
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        number("gamma", self.gamma, 0.05, 1.0)


def two_step(b: PlanBuilder, grid: Grid, frame: Frame, step: TwoStep) -> Plan:
    """Build the plan: an Euler step in ``frame``, then ``step`` along the rest of ``grid``."""
    before, x = None, b.start(grid[0])
    past = grid[0]
    for s, t in grid.pairs():
        m = b.evaluate(x, s, frame.kind)
        y = frame.move(x, s, t, t, 1.0, m) if before is None else step(before, x, m, past, s, t)
        before, x, past = x, b.at(t, y), s
    return b.finish(x, () if before is None else (before,))


@register(
    "bdia",
    order=lambda o: 2 if o.gamma == 1.0 else 1,
    source="Zhang et al. 2023, arXiv 2307.10829 (BDIA-DDIM)",
    variants=({"gamma": 0.5},),
    reversible=True,
)
def bdia(b: PlanBuilder, grid: Grid, options: BDIA) -> Plan:
    """BDIA: exactly invertible; the difference of two DDIM steps, forward and back, added to the
    state before."""
    gamma = options.gamma

    def step(
        before: Expression, x: Expression, e: Expression, r: Node, s: Node, t: Node
    ) -> Expression:
        return transfer(x, e, s, t) + gamma * (before - transfer(x, e, s, r))

    return two_step(b, grid, RhoFrame(grid), step)


@register(
    "reversible_heun",
    order=2,
    source="Kidger et al. 2021, arXiv 2105.13493",
    reversible=True,
)
def reversible_heun(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """Reversible Heun: exactly invertible; the mean of the last two states of ``bdia``, which damps
    what alternates from step to step, and half a step."""
    before, x = None, b.start(grid[0])
    past = grid[0]
    for s, t in grid.pairs():
        e = b.evaluate(x, s, "eps")
        if t.sigma == 0.0:  # no call there: the whole step with this prediction
            z = x if before is None else b.at(s, 0.5 * (x + transfer(before, e, past, s)))
            return b.finish(b.at(t, transfer(z, e, s, t)), (x,))
        new = transfer(x, e, s, t) if before is None else transfer(before, e, past, t)
        before, x, past = x, b.at(t, new), s
    end = grid[grid.steps]
    e = b.evaluate(x, end, "eps")
    assert before is not None
    return b.finish(b.at(end, 0.5 * (x + transfer(before, e, past, end))), (x,))


@register("belm", order=2, source="Wang et al. 2024, arXiv 2410.07273 (O-BELM)", reversible=True)
def belm(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """O-BELM: exactly invertible; the explicit midpoint rule in rho on uneven steps."""

    def step(
        before: Expression, x: Expression, e: Expression, r: Node, s: Node, t: Node
    ) -> Expression:
        old, now, slope = midpoint(s.rho - r.rho, t.rho - s.rho)
        y = (old / r.alpha) * before + (now / s.alpha) * x
        return t.alpha * (y + slope * e)

    return two_step(b, grid, RhoFrame(grid), step)


@register(
    "flow_belm",
    order=2,
    source="the rule of O-BELM, Wang et al. 2024, arXiv 2410.07273, on dx/dt = u",
    allow="asymptotic",
    alpha_zero=True,
    on="flow",
    reversible=True,
)
def flow_belm(b: PlanBuilder, grid: Grid, options: NoOptions) -> Plan:
    """O-BELM's rule in t on the velocity: exactly invertible, also from alpha = 0."""

    def step(
        before: Expression, x: Expression, u: Expression, r: Node, s: Node, t: Node
    ) -> Expression:
        times = [finite_time(node) for node in (r, s, t)]
        old, now, slope = midpoint(times[1] - times[0], times[2] - times[1])
        return old * before + now * x + slope * u

    return two_step(b, grid, TimeFrame(grid), step)


def midpoint(a: float, b: float) -> tuple[float, float, float]:
    """Weights of the state before, the state and the slope after steps a and b: exact for
    quadratics."""
    ratio = b / a
    return ratio * ratio, 1.0 - ratio * ratio, ratio * (a + b)

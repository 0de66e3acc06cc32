"""Methods that go to the data and back to the noise at every node: DAPS, PnP-DM."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, between, integer
from ...models.denoiser import Denoiser
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...plans.running.step_state import StepState
from ...samplers.singlestep.ancestral import ancestral_shares
from ...schedules.base import Schedule
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..operators.conjugate_gradients import conjugate_gradients
from .counts import Counts
from .measurement import Measurement
from .spread import Spread
from .stepping import Stepping, wide

#: part of its first noise level at which an inner path ends
DEPTH = 1e-2


def inner_path(schedule: Schedule, s: Node, calls: int) -> list[Node]:
    """The nodes of the calls on the way from ``s`` to the data: up to ``calls`` nodes, by Karras'
    rule (exponent 7) from rho to 1 % of it, but not below the end of the schedule."""
    last = schedule.node(schedule.t_min)
    low = max(DEPTH * s.rho, last.rho)
    if calls == 1 or s.alpha == 0.0 or low >= s.rho:
        return [s]
    a, c = s.rho ** (1 / 7), low ** (1 / 7)
    rhos = [(a + k / (calls - 1) * (c - a)) ** 7 for k in range(1, calls - 1)]
    return [s, *(schedule.node_at_rho(rho) for rho in (*rhos, low))]


def annealed(grid: Grid, calls: int, tau: float, stay: int, name: str) -> Plan:
    """At each node a path to the data, DDIM steps of strength tau, and from its last prediction D
    to the next node, ``x = alpha D + sigma z``; the last noisy node ``stay`` more times, unless
    alpha = 0 there."""
    b = PlanBuilder(grid.nodes, name=name)
    x = b.start(grid[0])
    nodes = [*grid.nodes[:-1], *[grid[-2]] * (stay if grid[-2].alpha else 0), grid[-1]]
    for first, t in pairwise(nodes):
        path = inner_path(grid.schedule, first, calls)
        for s, inner in pairwise(path):
            e, fresh = ancestral_shares(s, inner, tau)
            y = e * x + (inner.alpha - e * s.alpha) * b.evaluate(x, s, "x0")
            x = b.at(inner, y + fresh * b.noise(s, inner) if fresh else y)
        data = b.evaluate(x, path[-1], "x0")
        x = b.at(t, t.alpha * data + t.sigma * b.noise(first, t) if t.sigma else t.alpha * data)
    return b.finish(x)


class Annealing(Stepping):
    """A subclass defines ``anew``, the state at the next node from the prediction at the end of a
    path, and ``per_step``, the cost of it."""

    #: strength of the fresh noise of a path
    tau = 0.0

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        calls: int,
        stay: int,
        inner: str | None,
        langevin: int,
        rate: float,
        iterations: int,
    ) -> None:
        self.calls, self.stay = integer("calls", calls, 1), integer("stay", stay, 0)
        self.langevin = integer("langevin", langevin, 1)
        self.rate = float(between("rate", rate, 0.0, 1.0))
        self.iterations = integer("iterations", iterations, 1)
        if inner not in (None, "exact", "langevin"):
            raise ArgumentError(f"inner={inner!r}: must be 'exact' or 'langevin', or None")
        super().__init__(denoiser, likelihood)
        operator = self.likelihood.operator
        self.inner = inner or ("exact" if operator.linear else "langevin")
        if self.inner == "exact" and not operator.linear:
            raise ArgumentError(f"{operator!r} is not linear: use inner='langevin'")
        if self.inner == "langevin" and operator.norm_bound is None:
            raise ArgumentError(
                f"the steps of Langevin are as long as the norm of the operator allows, and "
                f"{operator!r} has no norm_bound: give the operator one, or use mmps"
            )

    def plan(self, grid: Grid) -> Plan:
        """The paths of this grid."""
        name = type(self).__name__.lower()
        return annealed(grid, self.calls, self.tau, self.stay, name)

    @override
    def planned(self, plan: Plan) -> Counts:
        each = self.langevin if self.inner == "langevin" else 1 + self.more
        total = Counts(plan.nfe)
        stay = self.stay if plan.nodes[-2].alpha else 0
        for _ in range(self.draws(len(plan.nodes) - 1 + stay, plan.end)):
            total += Counts(0, 0, each, each)
        return total

    def draws(self, paths: int, end: Node) -> int:
        """Number of draws given the measurement in a run of so many paths."""
        return paths

    @property
    def slots(self) -> int:
        """Draws of a step: of x, of y, of the next level, and of Langevin."""
        return 3 + self.langevin

    @property
    def more(self) -> int:
        """Conjugate gradient steps of an exact draw."""
        return 0 if self.likelihood.operator.solvable else self.iterations

    @override
    def moved(self, step: StepState) -> Tensor:
        run = self._run
        if run.level is None:
            run.level = step.node
            run.left = len(inner_path(self.schedule, step.node, self.calls))
        run.left -= 1
        if run.left:
            return step.x_next
        level, run.level = run.level, None
        return self.anew(step, wide(step.outputs["x0"]), level)

    def anew(self, step: StepState, x0: Tensor, level: Node) -> Tensor:
        """The state at ``step.next_node``; ``level``: where the path began."""
        raise NotImplementedError

    def draw(self, step: StepState, x0: Tensor, spread: Spread, noise: float) -> Tensor:
        """A sample of ``N(x; x0, C) N(y; A(x), noise^2)``, normed."""
        if self.inner == "langevin":
            return self._langevin(step, x0, spread, noise)
        x = x0 + spread.root(self.drawn(step, 0, self.slots))
        own = Measurement(self.likelihood, self.data(x), self.counts, graph=False)
        xi = self.measured_noise(step, own.residual)
        lost, operator = own.residual + noise * xi, self.likelihood.operator
        if spread.variance is not None and operator.solvable:
            v = operator.gram_solve(lost, spread.variance, noise**2)
        else:
            v = conjugate_gradients(
                lambda u: own.forward(spread(own.adjoint(u))) + noise**2 * u, lost, self.more
            )
        made: Tensor = x + spread(own.adjoint(v))
        return made

    def measured_noise(self, step: StepState, like: Tensor) -> Tensor:
        """Normals shaped like a measurement, 0 where nothing is observed."""
        assert self._run.noise is not None
        draw = step.index * self.slots + 1
        found: Tensor = self.likelihood.operator.zero_filled(self._run.noise(draw, like))
        return found

    def _langevin(self, step: StepState, x0: Tensor, spread: Spread, noise: float) -> Tensor:
        bound = self.likelihood.operator.norm_bound
        assert spread.variance is not None
        r2 = max(spread.variance, 1e-30)  # 0 after a path from alpha = 0 to the data
        rate = self.rate / (bound**2 / noise**2 + 1.0 / r2)
        x = x0
        for k in range(self.langevin):
            own = Measurement(self.likelihood, self.data(x), self.counts, graph=False)
            drift = own.adjoint(own.residual) / noise**2 - (x - x0) / r2
            xi = self.drawn(step, 3 + k, self.slots)
            x = x + rate * drift + (2.0 * rate) ** 0.5 * xi
        return x

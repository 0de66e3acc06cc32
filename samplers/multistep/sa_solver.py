"""SA-Solver: stochastic Adams predictor and corrector (Xue et al. 2023, arXiv 2309.05019, Alg. 1,
eqs. 14-19).

A preset of ``multistep`` whose diffusion strength tau may change from step to step: a constant, a
constant within an interval of noise levels, or one number per step. Predictor and corrector share
the step's noise. tau = 0 is UniP with UniC; predictor order 1 with tau = 1 is DDIM with eta = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...checks import ArgumentError, choice, flag, integer, number
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...schedules.grids.construction import Grid
from ..registry import register
from .recurrence import Step, multistep
from .weight_rules import Interpolation


@dataclass(frozen=True)
class SASolver:
    """Options of SA-Solver.

    Attributes:
        predictor_order: number of past nodes that the predictor uses.
        corrector_order: number of nodes that the corrector uses, including the new one; 0: none.
        tau: diffusion strength, one number or one per step of the whole grid (the noise form's
            first step from alpha = 0 adds no noise).
        interval: range of noise levels, by the start of the step, in which noise is added; ()
            means everywhere. diffusers: tau 1 for t = 200 .. 800 of its table; the paper on
            CIFAR-10: rho = 0.05 .. 1.
        clock: variable that ``interval`` is measured in, t of the schedule or rho.
        mode: ``pec`` keeps the prediction made at the predicted state; ``pece`` also evaluates the
            corrected one (twice the calls).
        kind: kind of prediction, x0 or eps.
        correction: ``exact``, or ``linear`` for the second moment of two nodes in data form (as in
            the authors' code and diffusers).
        end_noise: add noise in the last step too.
        lower_order_final: use at most as many nodes as there are steps left.
    """

    predictor_order: int = 2
    corrector_order: int = 2
    tau: float | tuple[float, ...] = 1.0
    interval: tuple[float, ...] = ()
    clock: str = "t"
    mode: str = "pec"
    kind: str = "x0"
    correction: str = "exact"
    end_noise: bool = False
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        integer("predictor_order", self.predictor_order, 1, 4)
        integer("corrector_order", self.corrector_order, 0, 5)
        if isinstance(self.tau, (list, tuple)):
            object.__setattr__(self, "tau", tuple(self.tau))
        for value in self.strengths:
            number("tau", value, 0.0, 3.0)
        object.__setattr__(self, "interval", tuple(self.interval))
        if self.interval and not (len(self.interval) == 2 and self.interval[0] < self.interval[1]):
            raise ArgumentError(
                f"interval={self.interval}: must be two increasing numbers, or () for no limits"
            )
        choice("clock", self.clock, ("t", "rho"))
        choice("mode", self.mode, ("pec", "pece"))
        choice("kind", self.kind, ("x0", "eps"))
        choice("correction", self.correction, ("exact", "linear"))
        flag("end_noise", self.end_noise)
        flag("lower_order_final", self.lower_order_final)

    @property
    def strengths(self) -> tuple[float, ...]:
        """The numbers in ``tau``."""
        return self.tau if isinstance(self.tau, tuple) else (self.tau,)

    def taus(self, grid: Grid, steps: int) -> tuple[float, ...]:
        """Strength of each step of ``grid``. ``tau`` is given for ``steps`` steps, of which the
        grid has the last ones. Raises ArgumentError if its length is another."""
        given = self.strengths if isinstance(self.tau, tuple) else self.strengths * steps
        if len(given) != steps:
            raise ArgumentError(
                f"tau has {len(given)} values for {steps} steps; give one per step or one number"
            )
        out = []
        for i, ((s, _), tau) in enumerate(
            zip(grid.pairs(), given[steps - grid.steps :], strict=True)
        ):
            where = s.rho if self.clock == "rho" else grid.times[i]
            inside = not self.interval or self.interval[0] <= where <= self.interval[1]
            out.append(tau if inside and (self.end_noise or i < grid.steps - 1) else 0.0)
        return tuple(out)


def _order(options: SASolver) -> int:
    p, q = options.predictor_order, options.corrector_order
    order = p if q == 0 else min(q, p + 1)
    return min(order, 2) if any(options.strengths) else order


@register(
    "sa_solver",
    order=_order,
    source="Xue et al. 2023, arXiv 2309.05019, Alg. 1",
    tau=lambda o: max(o.strengths),
    allow="signal",
    variants=(
        *(
            {"predictor_order": p, "corrector_order": q}
            for p, q in ((1, 0), (1, 2), (3, 3), (3, 4))
        ),
        *({"predictor_order": p, "corrector_order": q, "tau": 0.0} for p, q in ((2, 3), (3, 4))),
        {"mode": "pece"},
        {"tau": 0.7},
        {"kind": "eps"},
        {"correction": "linear"},
    ),
)
def sa_solver(b: PlanBuilder, grid: Grid, options: SASolver) -> Plan:
    """SA-Solver: stochastic Adams predictor and corrector with one evaluation per step; weak order
    at most 2, order p + 1 at tau = 0."""
    kind = options.kind
    correction = options.correction if kind == "x0" else "exact"
    steps = [
        Step(
            Interpolation(kind, tau=tau, correction=correction),
            options.predictor_order,
            options.corrector_order,
            again=options.mode == "pece",
        )
        for tau in options.taus(grid, len(b.nodes) - 1)
    ]
    return multistep(b, grid, steps, lower_order_final=options.lower_order_final)

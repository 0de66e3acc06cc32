"""``Solver``: a point of the space of multistep solvers USF (Liu et al. 2023, arXiv 2312.07243), a
decision for every step and the times of the steps.

A step decides how many past predictions it uses, as what and in which variable they are
interpolated, which of them give the first derivative and by what it is scaled, and whether the step
is corrected by the prediction at its end. The first call may be replaced by a closed form. All of
it are options of ``exponential_adams``, one entry for each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ...plans.plan import Plan
from ...schedules.base import Schedule
from ...schedules.grids.construction import Grid
from ..planning import plan as make_plan


class Form(NamedTuple):
    """What is interpolated, and in which variable."""

    kind: str = "x0"
    variable: str = "lam"

    @property
    def expands(self) -> bool:
        """Whether points and scale of the first derivative may be chosen."""
        return self.kind != "v"


DATA, NOISE, ANGLE = Form(), Form("eps"), Form("v", "angle")
NOISE_T, NOISE_RHO = Form("eps", "t"), Form("eps", "rho")


class Decision(NamedTuple):
    """One step; see ``samplers.multistep.exponential_adams``."""

    order: int = 2
    form: Form = DATA
    points: int = 0
    scale: float = 0.0
    correction: str = "exact"
    corrector: str = "none"

    def settled(self) -> Decision:
        """The decision without what has no effect, or no meaning, in its step."""
        bare = not self.form.expands or (self.order == 1 and self.corrector == "none")
        plain = bare or self.form.variable != "lam"
        return self._replace(
            points=0 if bare or self.points == self.order - 1 else self.points,
            scale=0.0 if bare else self.scale,
            correction="exact" if plain else self.correction,
        )


class Solver(NamedTuple):
    """A point of the space: ``len(steps) + 1`` times, and ``afs``, the rule of the first step
    without a call; "": none."""

    times: tuple[float, ...]
    steps: tuple[Decision, ...]
    afs: str = ""

    @property
    def nfe(self) -> int:
        """Number of network calls."""
        return len(self.steps) - bool(self.afs)

    def plan(self, schedule: Schedule) -> Plan:
        """The plan. Raises a FewstepError for times that do not fall from noise to data."""
        grid = Grid.from_times(schedule, self.times, "custom", (), "zero", "")
        columns: dict[str, Any] = {
            name: tuple(getattr(d, name) for d in self.steps) for name in _COLUMNS
        }
        return make_plan(
            "exponential_adams",
            schedule,
            grid=grid,
            kind=tuple(d.form.kind for d in self.steps),
            variable=tuple(d.form.variable for d in self.steps),
            lower_order_final=False,
            afs=self.afs or False,
            **columns,
        )


_COLUMNS = ("order", "points", "scale", "correction", "corrector")
#: solvers that are points of the space: the decision of their steps, and whether their last steps
#: use fewer predictions
KNOWN: tuple[tuple[Decision, bool], ...] = (
    (Decision(1), True),  # ddim
    (Decision(2, correction="midpoint"), True),  # dpmpp_2m
    (Decision(2), True),  # res_2m
    (Decision(3, correction="midpoint"), True),  # dpmpp_3m
    (Decision(2, NOISE, correction="midpoint"), True),  # dpm_solver_2m
    (Decision(3, NOISE, correction="midpoint"), True),  # dpm_solver_3m
    (Decision(2, correction="midpoint", corrector="pseudo"), True),  # unipc of order 2
    (Decision(3, correction="midpoint", corrector="pseudo"), True),  # unipc of order 3
    (Decision(2, NOISE_T), False),  # deis of order 2
    (Decision(3, NOISE_T), False),  # deis of order 3
    (Decision(3, NOISE_RHO), False),  # lms of order 3
    (Decision(2, ANGLE), True),
    (Decision(3, ANGLE), True),
)


def known(times: Sequence[float]) -> list[Solver]:
    """The known solvers at ``times``."""
    count, found = len(times) - 1, []
    for decision, lower in KNOWN:
        orders = [min(decision.order, count - i if lower else count) for i in range(count)]
        steps = tuple(decision._replace(order=order).settled() for order in orders)
        found.append(Solver(tuple(times), steps))
    return found

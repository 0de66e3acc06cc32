"""``Candidate``: a plan on its way through the stages, and the interface of a stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...plans.plan import Plan
from .problem import Problem
from .table import Table, table_of


@dataclass(frozen=True, eq=False)
class Candidate:
    """A plan with its validation score.

    Attributes:
        plan: the plan.
        score: on the validation trajectories.
        name: sampler, grid and options of the untuned plan that it began from.
        stages: the stages that changed it.
        table: the numbers of a tuned plan; None: those of the plan.
    """

    plan: Plan
    score: float
    name: str
    stages: tuple[str, ...] = ()
    table: Table | None = None

    def numbers(self, problem: Problem) -> Table | None:
        """The plan as a table; None for a plan that is none."""
        own = self.table
        return table_of(self.plan, problem.model.denoiser.schedule) if own is None else own

    def after(self, stage: str, table: Table, score: float) -> Candidate:
        """The candidate that ``stage`` made of this one."""
        return Candidate(table.plan(), score, self.name, (*self.stages, stage), table)


#: a stage: candidates in, best first, and candidates out, best first. The candidates that it was
#: given are among them, so a stage without a gain changes nothing
Stage = Callable[[Problem, Sequence[Candidate]], list[Candidate]]


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates by score, best first."""
    return sorted(candidates, key=lambda candidate: candidate.score)

"""What ``fewstep.tune`` says of its plan: errors on trajectories that no choice has seen, and how
far they can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...plans.walk import step_orders
from .candidate import Candidate, ranked
from .losses import sample_errors, short, summary
from .problem import Problem
from .table import FEW_DIGITS
from .trajectories import Trajectories

#: errors below this multiple of the reference's own error are not told apart
_TRUSTED = 2.0


def chosen(found: Sequence[Candidate]) -> tuple[Candidate, Candidate]:
    """The best candidate, with the coefficients that a file keeps, and the best untuned one."""
    best, untuned = found[0], ranked([c for c in found if not c.stages])[0]
    if best.table is not None:
        best = replace(best, plan=best.table.plan(FEW_DIGITS))
    return best, untuned


def facts(
    problem: Problem,
    best: Candidate,
    untuned: Candidate,
    history: Sequence[Mapping[str, Any]],
    sets: Mapping[str, Trajectories],
) -> dict[str, Any]:
    """The report, plain JSON (docs/tune.md)."""
    unseen = sets["test"]
    test = {
        "tuned": _errors(problem, best, unseen),
        "untuned": _errors(problem, untuned, unseen),
    }
    found = {
        "nfe": best.plan.nfe,
        "kept": "tuned" if best.stages else "untuned",
        "untuned": untuned.name,
        "from": best.name,
        "stages": list(history),
        "test": test,
        "step_orders": step_orders(best.plan),
        "trajectories": {name: [s.seeds[0], len(s.seeds)] for name, s in sets.items()},
        "reference": {"steps": problem.fine_steps, "error": short(unseen.error)},
        "network_rows": problem.model.rows_called,
    }
    note = _note(test["tuned"]["median"], unseen.error)
    return {**found, "note": note} if note else found


def _errors(problem: Problem, candidate: Candidate, given: Trajectories) -> dict[str, float]:
    end = problem.model.run(candidate.plan, given.x, given.cond)
    return summary(sample_errors(end, given.end))


def _note(median: float, reference: float) -> str:
    """A sentence where the ends are not converged enough for the errors that they measure."""
    if median > _TRUSTED * reference:
        return ""
    return (
        f"the median error of the plan, {median:.3g}, is not far above that of the converged ends "
        f"it is measured from, {reference:.3g}: the gain may be larger or smaller; raise fine_steps"
    )

"""The stage ``schedules``: the best samplers of the search on nodes that published methods place
for the model.

Each method chooses among the nodes of a ``Teacher`` from the training trajectories; the plans are
judged on the validation trajectories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from ...checks import FewstepError
from ...plans.instructions import PlanError
from ...plans.plan import Plan
from .align_steps import align_steps
from .candidate import Candidate, ranked
from .gits import cheapest_path, deviation_costs
from .optimal_steps import optimal_steps
from .problem import Problem
from .teacher import Teacher, teach

#: samplers that are tried on the nodes
_SAMPLERS = 4
#: trajectories of the dynamic programme that runs the model, in float64 and for networks
_EXACT, _NETWORK = 64, 16
#: factors gamma of GITS; the paper has 1.15, and 0.8 to 1.2 for Stable Diffusion
GAMMAS = (0.9, 1.0, 1.1, 1.15, 1.2)
#: a method: the indices of so many steps among the teacher's nodes
Method = Callable[[int], list[int]]


def fit_schedules(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, and their samplers on nodes for the model."""
    found = list(candidates)
    chosen = [c for c in _by_sampler(candidates) if _inner(c.plan) > 0][:_SAMPLERS]
    if not chosen or not problem.time_left:
        return found
    teacher = teach(problem)
    proposals: dict[int, dict[str, list[float]]] = {}
    for candidate in chosen:
        steps = _inner(candidate.plan) + 1
        if steps not in proposals:
            proposals[steps] = _times(problem, teacher, steps)
        for name, times in proposals[steps].items():
            made = _moved(candidate.plan, times)
            if made is not None and (score := problem.held_score(made)) < candidate.score:
                stages = (*candidate.stages, "schedules")
                found.append(Candidate(made, score, f"{_sampler(candidate)} on {name}", stages))
    return ranked(found)


def _methods(problem: Problem, teacher: Teacher) -> Iterator[tuple[str, Method]]:
    """The methods by name."""
    few = teacher.part(slice(0, _EXACT if problem.model.exact else _NETWORK))
    costs = deviation_costs(teacher)
    for gamma in GAMMAS:
        yield f"gits:gamma={gamma}", partial(cheapest_path, costs, gamma=gamma)
    yield "ays", partial(align_steps, teacher)
    yield "oss", partial(optimal_steps, few)


def _times(problem: Problem, teacher: Teacher, steps: int) -> dict[str, list[float]]:
    """The inner times of each method, as long as there is time."""
    found = {}
    for name, method in _methods(problem, teacher):
        if not problem.time_left:
            break
        try:
            path = method(steps)
        except FewstepError:  # more steps than nodes, or NaN
            continue
        found[name] = [float(teacher.nodes[i].t or 0.0) for i in path[1:-1]]
    return found


def _by_sampler(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first candidate of each sampler."""
    return list({_sampler(c): c for c in reversed(candidates)}.values())[::-1]


def _sampler(candidate: Candidate) -> str:
    """The sampler and its options, of the name of a candidate."""
    return candidate.name.split(" on ")[0]


def _inner(plan: Plan) -> int:
    """Number of inner nodes that can be moved."""
    try:
        return len(plan.parameters("times")["times"])
    except PlanError:
        return 0


def _moved(plan: Plan, times: list[float]) -> Plan | None:
    """The plan at other inner times; None where it has none there."""
    try:
        made = plan.with_parameters({"times": torch.tensor(times, dtype=torch.float64)})
    except FewstepError:
        return None
    return made if made.nfe == plan.nfe else None

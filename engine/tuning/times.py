"""The stage ``times``: the inner nodes of a sampler's grid, its coefficients following them.

The derivatives of the end by the nodes are differences of runs, so every sampler can be moved
(LD3, Tong et al. 2024, arXiv 2405.15506, learns the nodes by backpropagation).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ...checks import FewstepError
from ...plans.instructions import PlanError
from ...plans.plan import Plan
from .candidate import Candidate, ranked
from .least_squares import Family, fit
from .problem import Problem
from .table import Numbers

#: step of the differences in half log-SNR, for models in float64 and in less
_STEP, _COARSE = 1e-4, 1e-2
#: candidates that are fitted, as long as there is time
_STARTS = 2


def fit_times(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, and the first of them with fitted times."""
    found = list(candidates)
    for candidate in candidates[:_STARTS] if problem.any_time else ():
        if not problem.time_left or len(_lams(candidate.plan)) == 0:
            continue
        family = Family[Plan](
            plan=lambda plan: plan,
            linearised=partial(_linearised, problem=problem),
            moved=partial(_moved, problem=problem),
        )
        made = fit(family, candidate.plan, problem)
        if made.score < candidate.score:
            stages = (*candidate.stages, "times")
            found.append(Candidate(made.point, made.score, candidate.name, stages))
    return ranked(found)


def _lams(plan: Plan) -> Numbers:
    """Half log-SNR of the inner nodes; empty for a plan without a recipe."""
    try:
        plan.parameters("times")
    except PlanError:
        return np.zeros(0)
    assert plan.recipe is not None
    return np.array([node.lam for node in plan.recipe.grid.nodes[1:-1]])


def _moved(plan: Plan, step: Numbers, problem: Problem) -> Plan | None:
    """The plan with its inner nodes moved; None where they do not rise."""
    schedule = problem.model.denoiser.schedule
    highest, lowest = (float(schedule.lam(t)) for t in (schedule.t_low, schedule.t_max))
    lams = np.clip(_lams(plan) + step, lowest, highest)
    try:
        times = [schedule.node_at_lam(float(lam)).t for lam in lams]
        theta = torch.tensor(times, dtype=torch.float64)
        made = plan.with_parameters({"times": theta})
    except FewstepError:
        return None
    return made if made.nfe == plan.nfe else None


def _linearised(plan: Plan, problem: Problem) -> tuple[Tensor, Tensor]:
    """The ends of ``plan`` and their derivatives by the inner nodes."""
    given = problem.train
    end = problem.model.run(plan, given.x, given.cond)
    h = _STEP if problem.model.exact else _COARSE
    slopes = []
    for i in range(len(_lams(plan))):
        slope = torch.zeros_like(end)
        for sign in (1.0, -1.0):  # backwards where a node is at the end of the schedule
            step = np.zeros(len(_lams(plan)))
            step[i] = sign * h
            near = _moved(plan, step, problem)
            change = 0.0 if near is None else float((_lams(near) - _lams(plan))[i])
            if near is not None and abs(change) > 0.5 * h:
                slope = (problem.model.run(near, given.x, given.cond) - end) / change
                break
        slopes.append(slope)
    return end, torch.stack(slopes)

"""The stage ``greedy``: the weights of a plan row by row, by least squares on stored predictions.

Row k is fitted so that the state of the run comes next to the converged state at its node,

    min_w sum_b rho(| e x_k + c sum_j w_j D_j - x*_{k+1} |),     sum_j w_j = 1,

and the run goes on with it (compare S4S-Alt, arXiv 2502.17423). It needs as many network calls as
one run of the plan, and no derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ...checks import FewstepError
from .candidate import Candidate, ranked
from .losses import huber_weights, sample_errors
from .problem import Problem
from .table import Numbers, Table
from .trajectories import states_at

#: repetitions with new weights of the samples, and the least eigenvalue that counts, as a share
_ROUNDS, _RIDGE = 6, 1e-8
#: candidates that are fitted, as long as there is time: of models in float64 and of networks
_EXACT_STARTS, _NETWORK_STARTS = 3, 1


def fit_greedily(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, and the first of them with weights fitted row by row."""
    found = list(candidates)
    starts = _EXACT_STARTS if problem.model.exact else _NETWORK_STARTS
    for candidate in candidates[:starts]:
        table = candidate.numbers(problem)
        if table is None or not problem.time_left:
            continue
        try:
            made = greedy(problem, table)
        except FewstepError:  # NaN, or nodes at which the converged states cannot be had
            continue
        if made is not None and (score := problem.held_score(made.plan())) < candidate.score:
            found.append(candidate.after("greedy", made, score))
    return ranked(found)


def greedy(problem: Problem, table: Table) -> Table | None:
    """``table`` with weights fitted row by row."""
    given, model = problem.train, problem.model
    nodes, told = table.nodes, table.told
    wanted = [*states_at(model, given, nodes[1:-1], problem.fine_steps), given.end]
    weights, x, data = table.weights.copy(), given.x, list[Tensor]()
    for k, (s, t) in enumerate(pairwise(nodes)):
        data.append(model.x0(x, told[k], given.cond))
        e = t.sigma / s.sigma
        total = t.alpha - e * s.alpha
        target = (wanted[k] - e * x) / total
        weights[k, :k] = _row(target - data[k], [d - data[k] for d in data[:k]])
        weights[k, k] = 1.0 - weights[k, :k].sum()
        mean = sum((float(w) * d for w, d in zip(weights[k], data, strict=False)), 0.0 * x)
        x = e * x + total * mean
    return table.moved(table.inner, table.labels, weights)


def _row(target: Tensor, basis: Sequence[Tensor]) -> Numbers:
    """The weights of ``basis`` whose sum is next to ``target`` in most samples."""
    if not basis:
        return np.zeros(0)
    rows = torch.stack([b.flatten(1) for b in basis])
    goal = target.flatten(1)
    roots = torch.ones(len(goal), 1, dtype=goal.dtype, device=goal.device)
    found = rows.new_zeros(len(rows))
    for _ in range(_ROUNDS):
        square = torch.einsum("pbd,qbd->pq", rows * roots, rows * roots)
        right = torch.einsum("pbd,bd->p", rows * roots, goal * roots)
        ridge = _RIDGE * square.diagonal().mean() * torch.eye(len(rows)).to(square)
        found = torch.linalg.solve(square + ridge, right)
        made = torch.einsum("p,pbd->bd", found, rows)
        errors = sample_errors(made, goal)
        delta = max(float(errors.median()), 1e-300)
        roots = huber_weights(errors, delta).sqrt()[:, None]
    return found.cpu().numpy().astype(np.float64)

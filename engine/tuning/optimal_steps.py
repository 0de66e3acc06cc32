"""Nodes by a student's own Euler steps: optimal stepsizes (Pei et al. 2025, arXiv 2503.21774).

For every sample a dynamic programme finds, for each number of steps k and each node j, the node i
from which an Euler step of the best state Z_{k-1}[i] comes closest to the converged state at j:

    Z_k[j] = Z_{k-1}[i] + (rho_j - rho_i) eps(Z_{k-1}[i]),   i the one of the least |Z_k[j] - z*_j|.

The path to the last node is traced back, and each node is the median over the samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .teacher import Teacher, check_steps, euler


def optimal_steps(teacher: Teacher, steps: int) -> list[int]:
    """Indices of the ``steps + 1`` nodes, the first and last among them: ``(steps - 1) M`` network
    calls. ArgumentError unless 1 <= steps < M."""
    paths = sample_paths(teacher, steps)
    # the lower median of integers: rising, as each path rises by at least one
    return [int(v) for v in paths.median(0).values]


def sample_paths(teacher: Teacher, steps: int) -> Tensor:
    """The path of each sample, (B, steps + 1)."""
    nodes, last = teacher.nodes, len(teacher.nodes) - 1
    check_steps(steps, len(nodes))
    states = {0: teacher.states[0]}
    choices = []
    for k in range(1, steps + 1):
        data = {i: _predicted(teacher, x, i) for i, x in states.items()}
        ahead = range(k, last - (steps - k) + 1) if k < steps else (last,)
        made, choice = {}, {}
        for j in ahead:
            before = [i for i in states if i < j]
            tries = torch.stack([euler(states[i], data[i], nodes[i], nodes[j]) for i in before])
            misses = (tries - teacher.states[j]).flatten(2).square().sum(-1)
            best = misses.argmin(0)
            made[j] = tries[best, torch.arange(len(best))]
            choice[j] = torch.tensor(before)[best.cpu()]
        states = made
        choices.append(choice)
    return _traced(choices, last)


def _predicted(teacher: Teacher, x: Tensor, i: int) -> Tensor:
    if i == 0:
        return teacher.data[0]
    return teacher.model.x0(x, teacher.nodes[i], teacher.cond)


def _traced(choices: list[dict[int, Tensor]], last: int) -> Tensor:
    """The paths that end at ``last``."""
    count = len(choices[-1][last])
    paths = [torch.full((count,), last)]
    for choice in reversed(choices):
        paths.append(torch.stack([choice[int(j)][b] for b, j in enumerate(paths[-1])]))
    return torch.stack(paths[::-1], 1)

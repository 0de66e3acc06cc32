"""Nodes by the shape of the trajectories: GITS (Chen et al. 2024, arXiv 2405.11326).

With y = x / alpha, a trajectory bends away from the chord from its first to its last point, and
``dev(y)`` is the distance of a point from it. An Euler step from node i to node j costs

    c_ij = mean over samples of dev(y_i + (rho_j - rho_i) eps_i) - dev(y_j),

and the nodes are those of the cheapest path of so many steps, whose k-th step counts gamma^k.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .table import Numbers
from .teacher import Teacher, check_steps, euler


def deviation_costs(teacher: Teacher) -> Numbers:
    """The costs (M, M), inf where j <= i."""
    nodes, states = teacher.nodes, teacher.states.flatten(2)
    data = teacher.data.flatten(2)
    end = states[-1] / nodes[-1].alpha
    chord = states[0] - nodes[0].alpha * end  # alpha_0 (y_0 - y_end), finite at alpha_0 = 0
    chord = chord / chord.norm(dim=-1, keepdim=True).clamp_min(1e-300)
    costs = np.full((len(nodes), len(nodes)), np.inf)
    for i in range(len(nodes) - 1):
        later = range(i + 1, len(nodes))
        made = torch.stack(
            [euler(states[i], data[i], nodes[i], nodes[j]) / nodes[j].alpha for j in later]
        )
        own = torch.stack([states[j] / nodes[j].alpha for j in later])
        change = _deviation(made - end, chord) - _deviation(own - end, chord)
        costs[i, i + 1 :] = change.mean(1).cpu().numpy()
    return costs


def _deviation(y: Tensor, chord: Tensor) -> Tensor:
    """Distances of ``y`` (n, B, D), relative to the end, from the lines along ``chord`` (B, D)."""
    apart: Tensor = (y - (y * chord).sum(-1, keepdim=True) * chord).norm(dim=-1)
    return apart


def cheapest_path(costs: Numbers, steps: int, gamma: float = 1.0) -> list[int]:
    """The path ``0 = i_0 < .. < i_steps = M - 1`` of the least ``sum_k gamma^k c(i_k, i_{k+1})``,
    by dynamic programming from its end; the first of several. ArgumentError unless 1 <= steps < M.
    """
    last = len(costs) - 1
    check_steps(steps, len(costs))
    forward = np.triu(np.ones(costs.shape, dtype=bool), 1)
    allowed = np.where(forward, costs, np.inf)
    value, choice = allowed[:, last], []
    for _ in range(steps - 1):
        total = allowed + gamma * value[None, :]
        choice.append(total.argmin(1))
        value = total.min(1)
    path = [0]
    for best in reversed(choice):
        path.append(int(best[path[-1]]))
    return [*path, last]

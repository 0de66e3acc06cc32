"""Nodes by a bound of the divergence: Align Your Steps (Sabour et al. 2024, arXiv 2404.14507).

A stochastic sampler that keeps the prediction D of x0 over each step makes samples whose KL
divergence from the exact ones is at most (Girsanov; y = x / alpha, rho = sigma / alpha)

    sum_i int_{rho_{i+1}}^{rho_i} E |D(y_rho) - D(y_{rho_i})|^2 rho^-3 drho.

E is over forward paths ``y_rho = x0 + W(rho^2)``: one path gives the pairs of all levels, so M
calls a path give the bound of every choice among M nodes. The integral is a sum over these nodes,
exact where the expectation is linear in ``rho^-2`` between them (the paper draws the levels at
random).
The nodes are moved one at a time as long as the bound falls, on grids whose intervals are then
divided. The integral diverges at sigma = 0: it ends at the last node before, whose place the step
to sigma = 0 takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from ...schedules.node import Node
from .table import Numbers
from .teacher import Teacher, check_steps

#: forward paths from each converged end, and the seed of their noise
_REPEATS, _SEED = 4, 0


def align_steps(teacher: Teacher, steps: int) -> list[int]:
    """Indices of the ``steps + 1`` nodes, the first and last among them. ArgumentError unless
    1 <= steps < M - 1."""
    inner = teacher.nodes[:-1]
    check_steps(steps, len(inner))
    path = aligned(bound_terms(spreads(teacher), inner), steps)[0]
    return [*path[:-1], len(inner)]


def spreads(teacher: Teacher) -> Numbers:
    """``E |D_j - D_i|^2``, symmetric, for the nodes but the last."""
    model, nodes = teacher.model, teacher.nodes
    end = torch.cat([teacher.states[-1] / nodes[-1].alpha] * _REPEATS)
    draws = torch.Generator().manual_seed(_SEED)
    data, walk, level = [], torch.zeros_like(end), 0.0
    for node in reversed(nodes[:-1]):
        fresh = torch.randn(end.shape, generator=draws, dtype=torch.float64).to(end)
        if node.alpha == 0.0:
            x = node.sigma * fresh
        else:
            walk = walk + math.sqrt(node.rho**2 - level) * fresh
            level = node.rho**2
            x = node.alpha * (end + walk)
        data.append(model.x0(x, node, teacher.cond, _REPEATS).flatten(1))
    flat = torch.stack(data[::-1])
    rows = [(flat - own).square().sum(-1).mean(-1) for own in flat]
    return torch.stack(rows).cpu().numpy()


def bound_terms(spread: Numbers, nodes: Sequence[Node]) -> Numbers:
    """The terms (M, M) of the bound, of a step from node i to node j; inf where j <= i."""
    q = np.array([0.0 if node.alpha == 0.0 else node.rho**-2.0 for node in nodes])
    parts = 0.25 * (spread[:, 1:] + spread[:, :-1]) * np.diff(q)
    terms = np.full(spread.shape, np.inf)
    for i in range(len(nodes) - 1):
        terms[i, i + 1 :] = np.cumsum(parts[i, i:])
    return terms


def aligned(terms: Numbers, steps: int) -> tuple[list[int], list[float]]:
    """The path of ``steps`` steps over all nodes, and its bounds on the way, the last after each
    round at the full number of steps."""
    path, bounds = [0, len(terms) - 1], list[float]()
    while True:
        path, bounds = descended(terms, path)
        missing = steps + 1 - len(path)
        if missing <= 0:
            return path, bounds
        path = _divided(terms, path, missing)


def descended(terms: Numbers, path: Sequence[int]) -> tuple[list[int], list[float]]:
    """The path after rounds that move one node at a time to the best place between its
    neighbours, until none moves, and the bound before and after each round."""
    found, bounds = list(path), [_bound(terms, path)]
    while True:
        for k in range(1, len(found) - 1):
            a, b = found[k - 1], found[k + 1]
            places = np.arange(a + 1, b)
            values = terms[a, places] + terms[places, b]
            best = int(values.argmin())
            if values[best] < terms[a, found[k]] + terms[found[k], b]:
                found[k] = int(places[best])
        bounds.append(_bound(terms, found))
        if bounds[-1] >= bounds[-2]:
            return found, bounds


def _divided(terms: Numbers, path: Sequence[int], count: int) -> list[int]:
    """The path with its ``count`` largest terms, or all, divided where it helps most."""
    found = list(path)
    open_steps = [(a, b) for a, b in pairwise(path) if b - a > 1]
    for a, b in sorted(open_steps, key=lambda step: -terms[step])[:count]:
        places = np.arange(a + 1, b)
        found.append(int(places[(terms[a, places] + terms[places, b]).argmin()]))
    return sorted(found)


def _bound(terms: Numbers, path: Sequence[int]) -> float:
    return float(sum(terms[step] for step in pairwise(path)))

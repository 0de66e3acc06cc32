"""``Teacher``: converged trajectories at the nodes of a fine grid, with the predictions there.

The methods that place nodes (``gits``, ``optimal_steps``, ``align_steps``) choose among its nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import ArgumentError
from ...models.denoiser import Condition
from ...schedules.discrete import DiscreteVP
from ...schedules.grids.construction import Grid, grid
from ...schedules.node import Node
from .problem import Problem
from .trajectories import Model, Trajectories, states_at

#: steps of the fine grid
_STEPS = 60


@dataclass(frozen=True, eq=False)
class Teacher:
    """Trajectories at M nodes.

    Attributes:
        model: the model, which counts its calls.
        nodes: M nodes from noise to data, the last at sigma = 0.
        states: (M, B, *shape), at the nodes.
        data: (M - 1, B, *shape), predictions of x0 at all states but the last.
        cond: conditions of the B trajectories.
    """

    model: Model
    nodes: tuple[Node, ...]
    states: Tensor
    data: Tensor
    cond: Condition

    def part(self, rows: slice) -> Teacher:
        """The trajectories ``rows``."""
        given = Trajectories(
            range(self.states.shape[1]), self.states[0], self.cond, self.states[-1]
        )
        cond = given.part(rows).cond
        return Teacher(self.model, self.nodes, self.states[:, rows], self.data[:, rows], cond)


def euler(x: Tensor, data: Tensor, s: Node, t: Node) -> Tensor:
    """The Euler step in rho, which is that of DDIM, from ``x`` at ``s`` to ``t``."""
    e = t.sigma / s.sigma
    return e * x + (t.alpha - e * s.alpha) * data


def check_steps(steps: int, nodes: int) -> None:
    """ArgumentError unless a path of so many ``steps`` fits between ``nodes`` nodes."""
    if not 1 <= steps < nodes:
        raise ArgumentError(f"steps={steps}: must be 1 to {nodes - 1}, with {nodes} nodes")


def teach(problem: Problem) -> Teacher:
    """The training trajectories at the nodes of a fine grid."""
    given, model = problem.train, problem.model
    nodes = _fine(problem).nodes
    inner = states_at(model, given, nodes[1:-1], problem.fine_steps)
    states = torch.stack([given.x, *inner, given.end])
    data = [model.x0(x, t, given.cond) for x, t in zip(states[:-1], nodes[:-1], strict=True)]
    return Teacher(model, nodes, states, torch.stack(data), given.cond)


def _fine(problem: Problem) -> Grid:
    """The grid ``auto`` of many steps; on a table whose network rounds the time, of its indices."""
    schedule = problem.model.denoiser.schedule
    found = grid("auto", schedule, _STEPS, facts=problem.facts)
    if problem.any_time or not isinstance(schedule, DiscreteVP):
        return found
    whole = sorted({float(round(t)) for t in found.times[:-1]}, reverse=True)
    return Grid.from_times(schedule, [*whole, schedule.t_zero], "custom", (), "zero", "")

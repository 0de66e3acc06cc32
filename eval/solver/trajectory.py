"""Converged probability-flow trajectories of a model, and their straightness.

A reference is ``ode853`` from node to node with float64 states; the model computes in its own
precision. Its error is estimated by a second run at a tolerance ten times looser. Rounding of a
float32 network makes the step control expensive (over 1,700 calls at 1e-6 on the bundled digits),
so ``doubled_reference`` computes an end point alone with fixed steps, doubled until it converges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ...engine.planning import Request
from ...engine.sampling import execute
from ...models.denoiser import Condition, Denoiser
from ...models.precision import InOwnPrecision
from ...samplers import registry
from ...schedules.grids.construction import Grid
from ...schedules.grids.construction import grid as make_grid
from ...schedules.node import Node
from ..errors import ScoreError

#: relative and absolute tolerance of a reference, for models in float64 and in lower precision
TOLERANCE, COARSE = 1e-8, 1e-6
LOOSER = 10.0
#: first and last number of steps of the doubling, and its sampler
FIRST, LAST, DOUBLED = 32, 512, ("unipc", {"order": 3})


@dataclass(frozen=True, eq=False)
class TrajectoryReference:
    """Converged probability-flow states from one start.

    Attributes:
        nodes, states: nodes and the states there, (B, *shape), the start first.
        error: RMS change of the last state when the tolerance is ten times looser: an upper
            estimate of its error.
        nfe: network calls of the tighter run.
    """

    nodes: tuple[Node, ...]
    states: tuple[Tensor, ...]
    error: float
    nfe: int

    @property
    def end(self) -> Tensor:
        """The last state."""
        return self.states[-1]


def reference_states(
    denoiser: Denoiser,
    x: Tensor,
    grid: Grid,
    *,
    tolerance: float | None = None,
    cond: Condition = None,
    every: bool = True,
) -> TrajectoryReference:
    """The probability-flow trajectory from ``x`` (B, *shape), a state at the grid's first node, at
    all nodes (``every``) or at the end.

    A last step to sigma = 0 is a DDIM step from the last level with noise, ``alpha D``, as in all
    samplers. ``tolerance`` is 1e-8 by default, or 1e-6 where the model's weights are not float64;
    ScoreError outside [1e-12, 1e-3].
    """
    model = InOwnPrecision(denoiser)
    if tolerance is None:
        tolerance = TOLERANCE if model.dtype == torch.float64 else COARSE
    if not 1e-12 <= tolerance <= 1e-3:
        raise ScoreError(f"tolerance={tolerance!r}: allowed are numbers from 1e-12 to 1e-3")
    nodes = _ends(grid) if not every else grid.nodes
    x = x.to(torch.float64)
    tight, nfe = _converged_states(model, x, nodes, grid, tolerance, cond)
    loose, _ = _converged_states(model, x, nodes, grid, tolerance * LOOSER, cond)
    return TrajectoryReference(nodes, tight, rms(tight[-1] - loose[-1]), nfe)


def doubled_reference(
    denoiser: Denoiser,
    x: Tensor,
    *,
    tolerance: float = 1e-3,
    cond: Condition = None,
    final: str = "zero",
    most: int = LAST,
) -> TrajectoryReference:
    """The probability-flow end point from ``x`` (B, *shape), a state at t_max: UniPC-3 on the grid
    ``lam``, its steps doubled from 32 until the RMS change of the end is at most ``tolerance``, or
    ``most`` steps are reached. ``error`` is the last change, an upper estimate of the error of the
    finest run.
    """
    if not 1e-12 <= tolerance <= 1.0 or most < 2 * FIRST:
        raise ScoreError(
            f"tolerance={tolerance!r}, most={most}: allowed are tolerances from 1e-12 to 1 "
            f"and at least {2 * FIRST} steps"
        )
    model, x = InOwnPrecision(denoiser), x.to(torch.float64)
    options = registry.make_options(registry.get(DOUBLED[0]), DOUBLED[1])
    steps, nfe, error, ends = FIRST, 0, math.inf, list[Tensor]()
    while not ends or (error > tolerance and steps < most):
        steps *= 2 if ends else 1
        grid = make_grid("lam", denoiser.schedule, steps, final=final)
        end, facts = execute(
            Request(DOUBLED[0], options, grid), model, x, seeds=range(len(x)), cond=cond
        )
        error = rms(end - ends[-1]) if ends else math.inf
        ends, nfe = [end], nfe + facts.nfe
    return TrajectoryReference((grid[0], grid[-1]), (x, ends[-1]), error, nfe)


def _ends(grid: Grid) -> tuple[Node, ...]:
    """First and last node, and between them the node before a step to sigma = 0."""
    inner = grid[-2 if grid[-1].sigma == 0.0 else -1]
    nodes = (grid[0], inner, grid[-1])
    return tuple(node for k, node in enumerate(nodes) if k == 0 or node != nodes[k - 1])


def _converged_states(
    denoiser: Denoiser,
    x: Tensor,
    nodes: Sequence[Node],
    grid: Grid,
    tolerance: float,
    cond: Condition,
) -> tuple[tuple[Tensor, ...], int]:
    """States at ``nodes`` and the network calls made."""
    options = registry.make_options(
        registry.get("ode853"), {"rtol": tolerance, "atol": tolerance, "max_nfe": 10**6}
    )
    states, nfe = [x], 0
    for s, t in pairwise(nodes):
        if t.sigma > 0.0:
            piece = Request("ode853", options, Grid.from_nodes([s, t], grid.schedule))
        else:  # the step that samplers take from the same level
            piece = Request(
                "ddim",
                registry.make_options(registry.get("ddim"), {}),
                Grid.from_nodes([s, t], grid.schedule),
            )
        y, facts = execute(piece, denoiser, states[-1], seeds=range(len(x)), cond=cond)
        states.append(y)
        nfe += facts.nfe
    return tuple(states), nfe


def rms(x: Tensor) -> float:
    """Root mean square of all entries."""
    return float(x.double().square().mean().sqrt())


@dataclass(frozen=True)
class Straightness:
    """How straight a trajectory is, in the coordinates of the straight path,
    ``y = x / (alpha + sigma)``, ``r = alpha / (alpha + sigma)``.

    Attributes:
        deviation: ``int E|y_1 - y_0 - dy/dr|^2 dr / d`` on the polygon (Liu et al. 2022, arXiv
            2209.03003, eq. 4): 0 if and only if straight at constant speed.
        length: mean over samples of path length over distance of the ends, at least 1.
        curvature: mean of ``|y''_perp| / |y'|^2``, in units of one over the distance of the ends: 0
            for a straight line at any speed.
        planarity: share of the variance around the straight line that lies in its first 1, 2 and 3
            directions, mean over samples.
    """

    deviation: float
    length: float
    curvature: float
    planarity: tuple[float, float, float]


def straightness(nodes: Sequence[Node], states: Sequence[Tensor]) -> Straightness:
    """Straightness of a trajectory from its states (B, *shape) at three or more ``nodes``, such as
    those of a ``TrajectoryReference`` on a fine grid."""
    if len(nodes) != len(states) or len(nodes) < 3:
        raise ScoreError(
            f"{len(nodes)} nodes and {len(states)} states: must be equal numbers, >= 3"
        )
    r = torch.tensor(
        [node.alpha / (node.alpha + node.sigma) for node in nodes], dtype=torch.float64
    )
    if not bool((r.diff() > 0.0).all()):
        raise ScoreError("the nodes must run from noise to data")
    scale = [node.alpha + node.sigma for node in nodes]
    y = torch.stack([x.double().flatten(1) / c for x, c in zip(states, scale, strict=True)])
    if not bool(torch.isfinite(y).all()):
        raise ScoreError("a state holds NaN or infinity")
    chord, steps, dr = y[-1] - y[0], y.diff(dim=0), r.diff()[:, None, None]
    speed = steps / dr
    span = (r[-1] - r[0]).item()
    deviation = float(((chord / span - speed).square() * dr).sum(dim=0).mean()) * span
    distance = chord.norm(dim=1).clamp_min(1e-300)
    length = float((steps.norm(dim=2).sum(dim=0) / distance).mean())
    return Straightness(deviation, length, _curvature(speed, r, distance), _planarity(y, r, span))


def _curvature(speed: Tensor, r: Tensor, distance: Tensor) -> float:
    middle = 0.5 * (r[1:] + r[:-1])
    second = speed.diff(dim=0) / middle.diff()[:, None, None]
    first = 0.5 * (speed[1:] + speed[:-1])
    squares = first.square().sum(dim=2, keepdim=True).clamp_min(1e-300)
    across = second - first * ((second * first).sum(dim=2, keepdim=True) / squares)
    return float((across.norm(dim=2) / squares.squeeze(2) * distance).mean())


def _planarity(y: Tensor, r: Tensor, span: float) -> tuple[float, float, float]:
    """Shares of the first three singular values squared of the deviations from the straight line
    between the ends."""
    line = y[0] + (y[-1] - y[0]) * ((r - r[0]) / span)[:, None, None]
    values = torch.linalg.svdvals((y - line).transpose(0, 1)).square()
    total = values.sum(dim=1)
    shares = (values.cumsum(dim=1) / total.clamp_min(1e-300)[:, None])[total > 0.0]
    if not len(shares):
        return 1.0, 1.0, 1.0
    mean = shares.mean(dim=0).tolist()
    one, two, three = (mean + mean[-1:] * 3)[:3]
    return one, two, three

"""Solver error of a deterministic sampler, separate from the model's error.

The error is the distance of the sampler's result from the model's own converged probability-flow
end point, started at the same noise: ``rmse = sqrt(mean_b |x_N^b - x_*^b|^2 / d)``. The local error
of step i is the error that this step adds, from the converged state and with a converged history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...engine.planning import Request, request
from ...engine.sampling import execute
from ...engine.start_states import start_state
from ...fused.noise.seeded import check_seeds, seeds_from
from ...models.denoiser import Condition, Denoiser
from ...models.precision import InOwnPrecision
from ...plans.instructions import Combine, Evaluate
from ...plans.plan import Plan
from ...plans.running.channels import network_raws
from ...plans.running.loop import Outputs
from ...samplers import registry
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from ..errors import ScoreError
from .deviation import Deviation
from .model_grids import grid_of
from .trajectory import TrajectoryReference, reference_states, rms


class SolverError(Deviation[TrajectoryReference]):
    """Error of a deterministic sampler against the model's converged probability-flow end
    points."""


def solver_error(
    denoiser: Denoiser,
    sampler: str = "auto",
    *,
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Grid = "auto",
    final: str = "zero",
    n: int = 64,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    x: Tensor | None = None,
    shape: Sequence[int] | None = None,
    cond: Condition = None,
    reference: TrajectoryReference | None = None,
    tolerance: float | None = None,
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> SolverError:
    """Compare ``sampler`` with the converged probability-flow end point from the same noise.

    Args:
        denoiser, sampler, steps, nfe, grid, final, options: as in ``fewstep.sample``.
        n, seed, seeds, shape: of the start noise; or ``x``, states at the grid's first node.
        cond: conditions of the model.
        reference: result of an earlier call with the same start and the same last two nodes, which
            saves its cost.
        tolerance: of the reference, relative and absolute: 1e-8, or 1e-6 where the model's weights
            are not float64.
        dtype: of the sampler's states; the model computes in its own.

    Raises ScoreError for a stochastic sampler, whose states have no pathwise limit, and for a
    reference with another start.
    """
    size = shape if x is None else x.shape[1:]
    where = grid_of(denoiser, steps, nfe, grid, final, size)
    asked = request(sampler, denoiser.schedule, options, where)
    refuse_noise(asked)
    chosen = seeds_from(seed, n) if seeds is None else check_seeds(seeds)
    start = (
        start_state(denoiser, asked.grid[0], chosen, shape=shape, dtype=dtype)
        if x is None
        else x.to(dtype)
    )
    exact = reference or reference_states(
        denoiser, start, asked.grid, tolerance=tolerance, cond=cond, every=False
    )
    if (
        exact.nodes[0] != asked.grid[0]
        or exact.nodes[-1] != asked.grid[-1]
        or not torch.equal(exact.states[0], start.double())
    ):
        raise ScoreError(
            "the given reference starts from other states, or ends elsewhere, than the sampler"
        )
    out, facts = execute(asked, InOwnPrecision(denoiser), start, seeds=range(len(start)), cond=cond)
    return SolverError.of(out, exact, facts.nfe)


def refuse_noise(asked: Request) -> None:
    """Raise ScoreError where the sampler draws noise."""
    entry = registry.get(asked.name)
    if entry.tau_of(asked.options) > 0.0 or (not asked.driver and asked.plan().stochastic):
        raise ScoreError(
            f"{asked.name} draws noise with these options, so its states have no pathwise limit; "
            "compare the distribution of its samples"
        )


@dataclass(frozen=True, eq=False)
class LocalErrors:
    """Local truncation errors: ``error[i]`` is the RMS error that step i, from ``nodes[i]`` to
    ``nodes[i + 1]``, adds to the converged state."""

    nodes: tuple[Node, ...]
    error: tuple[float, ...]
    reference: TrajectoryReference


def local_errors(
    denoiser: Denoiser,
    sampler: str = "auto",
    *,
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Grid = "auto",
    final: str = "zero",
    n: int = 16,
    seed: int = 0,
    shape: Sequence[int] | None = None,
    cond: Condition = None,
    reference: TrajectoryReference | None = None,
    tolerance: float | None = None,
    **options: Any,
) -> LocalErrors:
    """Local truncation error ``O(h^{p+1})`` of each step of a deterministic plan sampler; arguments
    as in ``solver_error``.

    Each step starts from the converged state, with predictions at converged states as its history;
    stages within the step are the sampler's own.
    """
    where = grid_of(denoiser, steps, nfe, grid, final, shape)
    asked = request(sampler, denoiser.schedule, options, where)
    refuse_noise(asked)
    plan = asked.plan()
    start = start_state(
        denoiser, asked.grid[0], seeds_from(seed, n), shape=shape, dtype=torch.float64
    )
    boundaries = Grid.from_nodes(plan.nodes, denoiser.schedule)
    exact = reference or reference_states(
        denoiser, start, boundaries, tolerance=tolerance, cond=cond
    )
    if exact.nodes != plan.nodes or not torch.equal(exact.states[0], start):
        raise ScoreError(
            "the given reference starts from other states, or passes other nodes, than the sampler"
        )
    return LocalErrors(
        plan.nodes, tuple(defects(plan, InOwnPrecision(denoiser), exact.states, cond)), exact
    )


@torch.no_grad()
def defects(
    plan: Plan, denoiser: Denoiser, exact: Sequence[Tensor], cond: Condition = None
) -> list[float]:
    """RMS difference between each boundary state of ``plan`` and ``exact``, which then replaces it.

    The state is that of the last Combine at the boundary. This is the order walk (``plans.walk``)
    with a network.
    """
    place = {node: j for j, node in enumerate(plan.nodes)}
    last = {
        i.node: k for k, i in enumerate(plan.code) if isinstance(i, Combine) and i.node in place
    }
    values: dict[int, Tensor] = {0: exact[0].double()}
    found = [0.0] * plan.steps
    for k, i in enumerate(plan.code):
        if isinstance(i, Evaluate):
            values.update(_predictions(i, values[i.state], denoiser, cond))
            continue
        out = torch.zeros_like(values[0])
        for value, c in i.terms:
            out = out + c * values[value]
        if i.node in place and last[i.node] == k:
            j = place[i.node]
            found[j - 1] = rms(out - exact[j])
            out = exact[j].double()
        values[i.out] = out
    return found


def _predictions(i: Evaluate, x: Tensor, denoiser: Denoiser, cond: Condition) -> dict[int, Tensor]:
    if i.node.t is None:
        raise ScoreError(f"{i.node} has no time: the model cannot be asked there")
    scale = denoiser.input_scale(i.node.t)
    to = None if i.to is None else i.to.t
    x_in = x if scale == 1.0 else x * scale
    raws = network_raws(denoiser, x_in, i.node.t, cond, i.channels, to)
    outputs = Outputs(denoiser, i.node, x, raws, i.channels)
    return {value: outputs[kind, channel] for value, kind, channel in i.outs}

"""Strong error of a stochastic sampler on any model: the distance from a fine solution on the same
Brownian path.

``E|X_h - X|^2`` needs both to be driven by one path (Kloeden & Platen 1992, sec. 9.6): every sample
has its own path in half log-SNR (``engine.paths``), and the reference runs on a grid that divides
every step of the sampler's. The reference's own error is measured by a run on a grid half as fine.
The last step to sigma = 0 stays a single step, as in all samplers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...checks import integer
from ...engine.paths import PlanPath, clipped
from ...engine.planning import Request, request
from ...engine.sampling import run
from ...engine.start_states import start_state
from ...fused.noise.seeded import check_seeds, seeds_from
from ...models.denoiser import Condition, Denoiser
from ...models.precision import InOwnPrecision
from ...plans.plan import Plan
from ...samplers import registry
from ...schedules.base import Schedule
from ...schedules.grids.construction import Grid
from ...schedules.grids.request import GridRequest
from ...schedules.node import Node
from ..certificates.strong import TOLERANCE
from ..errors import ScoreError
from .batches import row_batches
from .deviation import Deviation
from .model_grids import grid_of
from .trajectory import rms


@dataclass(frozen=True, eq=False)
class PathReference:
    """Fine solutions of the SDE from given starts on the paths of ``seeds``.

    Attributes:
        ends: the first node and the last two, which a compared sampler must share.
        seeds, tol: of the paths, one seed a sample; ``tol`` is the resolution in half log-SNR
            (2^-12, or less for shorter steps; a different ``tol`` is a different path).
        tau: diffusion strength.
        start, end: states (B, *shape) at the first and the last node.
        error: RMS distance of ``end`` from a solution with half as many steps: an upper estimate of
            its error at strong order 1, and 0.41 of it at order 1/2.
        steps, nfe: of the fine solution.
    """

    ends: tuple[Node, ...]
    seeds: tuple[int, ...]
    tol: float
    tau: float
    start: Tensor
    end: Tensor
    error: float
    steps: int
    nfe: int


class StrongError(Deviation[PathReference]):
    """Strong error of a stochastic sampler; where ``converged`` is False a finer reference is
    needed."""


def strong_error(
    denoiser: Denoiser,
    sampler: str = "dpmpp_2m_sde",
    *,
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Grid = "auto",
    final: str = "zero",
    n: int = 64,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    shape: Sequence[int] | None = None,
    cond: Condition = None,
    refine: int = 32,
    reference: PathReference | None = None,
    reference_sampler: tuple[str, Mapping[str, Any]] | None = None,
    batch: int | None = None,
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> StrongError:
    """Compare ``sampler`` with a fine solution from the same noise on the same Brownian path.

    Args:
        denoiser, sampler, steps, nfe, grid, final, options: as in ``fewstep.sample``.
        n, seed, seeds, shape, cond: of the samples; each seed has its start noise and its path.
        refine: number of parts that the reference divides every step into; must be even.
        reference: result of an earlier call with the same seeds and ends, which saves its cost; it
            must come from the finest grid.
        reference_sampler: name and options of the reference's sampler, of the same strength tau;
            default the sampler itself, which cannot reveal convergence to a wrong limit.
        batch: samples in one network call, default all; the result does not depend on it where the
            network's rows are independent.
        dtype: of the states; the model computes in its own.

    Raises ScoreError for a driver, for a sampler without noise (see ``solver_error``), for a
    sampler whose noise is not an increment of a path (churn, restarts), and for a reference that
    does not fit.
    """
    integer("refine", refine, 2, 4096)
    if refine % 2:
        raise ScoreError(
            f"refine={refine}: must be even, since half of it measures the reference's error"
        )
    where = grid_of(denoiser, steps, nfe, grid, final, shape)
    asked = request(sampler, denoiser.schedule, options, where)
    plan = path_plan(asked)
    chosen = seeds_from(seed, n) if seeds is None else check_seeds(seeds)
    start = start_state(denoiser, asked.grid[0], chosen, shape=shape, dtype=dtype)
    model = InOwnPrecision(denoiser)
    if reference is None:
        fine = _finer(asked, reference_sampler)
        reference = _reference(
            model, fine, asked, refine, chosen, start, cond, batch, shortest(plan)
        )
    _fits(reference, asked, plan, chosen, start)
    x = run_on_paths(plan, model, start, chosen, reference.tol, cond, batch)
    return StrongError.of(x, reference, plan.nfe)


def path_plan(asked: Request) -> Plan:
    """The plan of a sampler driven by a Brownian path. ScoreError, with the reason, for others."""
    if asked.driver:
        raise ScoreError(
            f"{asked.name} is a driver, whose noise is not known beforehand: compare the "
            "distribution of its samples instead"
        )
    plan = asked.plan()
    if not plan.stochastic:
        raise ScoreError(f"{asked.name} draws no noise with these options: use solver_error")
    if any(draw.end.rho >= draw.start.rho for draw in plan.draws):
        raise ScoreError(
            f"{asked.name} adds noise in jumps to a higher level, which are not increments of "
            "a path: use weak_error"
        )
    return plan


def shortest(plan: Plan) -> float:
    """Length of the shortest noise interval of ``plan`` in half log-SNR."""
    return min(clipped(draw.end.lam) - clipped(draw.start.lam) for draw in plan.draws)


def run_on_paths(
    plan: Plan,
    model: Denoiser,
    start: Tensor,
    seeds: Sequence[int],
    tol: float,
    cond: Condition,
    batch: int | None,
) -> Tensor:
    """The result of ``plan`` from ``start`` (B, *shape) on the paths of ``seeds``, ``batch``
    samples at a time."""
    parts = []
    for rows, own in row_batches(len(seeds), batch, cond):
        some = tuple(seeds[rows])
        parts.append(
            run(plan, model, start[rows], noise=PlanPath(plan, some, tol=tol), seeds=some, cond=own)
        )
    return torch.cat(parts)


def refined(grid: Grid, parts: int) -> Grid:
    """``grid`` with every step cut into ``parts``, equal in half log-SNR; equal in angle for a step
    from alpha = 0; a step to sigma = 0 is not cut."""
    nodes = [grid[0]]
    for s, t in pairwise(grid.nodes):
        count = 1 if t.sigma == 0.0 else parts
        nodes += [_between(grid.schedule, s, t, k / count) for k in range(1, count)] + [t]
    return Grid.from_nodes(nodes, grid.schedule)


def _between(schedule: Schedule, s: Node, t: Node, share: float) -> Node:
    if s.alpha > 0.0:
        return schedule.node_at_lam(s.lam + share * (t.lam - s.lam))
    angle = 0.5 * math.pi + share * (math.atan2(t.sigma, t.alpha) - 0.5 * math.pi)
    return schedule.node_at_lam(-math.log(math.tan(angle)))


def _finer(asked: Request, other: tuple[str, Mapping[str, Any]] | None) -> Request:
    """The reference's sampler, on the grid of ``asked``."""
    if other is None:
        return asked
    made = request(other[0], asked.grid.schedule, other[1], GridRequest(grid=asked.grid))
    taus = [registry.get(r.name).tau_of(r.options) for r in (asked, made)]
    if taus[0] != taus[1]:
        raise ScoreError(
            f"the reference {made.name} has tau = {taus[1]}, {asked.name} has {taus[0]}: "
            "they solve different SDEs"
        )
    return made


def _reference(
    model: Denoiser,
    fine: Request,
    asked: Request,
    refine: int,
    seeds: tuple[int, ...],
    start: Tensor,
    cond: Condition,
    batch: int | None,
    least: float,
) -> PathReference:
    plans = [
        path_plan(Request(fine.name, fine.options, refined(asked.grid, parts)))
        for parts in (refine, refine // 2)
    ]
    tol = min(TOLERANCE, 2.0 ** math.floor(math.log2(min(least, *(shortest(p) for p in plans)))))
    end, half = (run_on_paths(p, model, start, seeds, tol, cond, batch) for p in plans)
    tau = registry.get(fine.name).tau_of(fine.options)
    return PathReference(
        _ends(asked.grid),
        seeds,
        tol,
        tau,
        start,
        end,
        rms(end - half),
        plans[0].steps,
        plans[0].nfe,
    )


def _ends(grid: Grid) -> tuple[Node, ...]:
    """The first and the last node, and between them the node before a step to sigma = 0, if there
    is one."""
    return (grid[0], grid[-2], grid[-1]) if grid[-1].sigma == 0.0 else (grid[0], grid[-1])


def _fits(
    reference: PathReference, asked: Request, plan: Plan, seeds: tuple[int, ...], start: Tensor
) -> None:
    if (
        reference.ends != _ends(asked.grid)
        or reference.seeds != seeds
        or not torch.equal(reference.start, start)
    ):
        raise ScoreError(
            "the given reference differs from the sampler in its seeds, start or end nodes"
        )
    tau = registry.get(asked.name).tau_of(asked.options)
    if reference.tau != tau:
        raise ScoreError(
            f"the given reference has tau = {reference.tau}, {asked.name} has {tau}: they "
            "solve different SDEs"
        )
    if shortest(plan) < reference.tol * (1.0 - 1e-9):
        raise ScoreError(
            f"a step of {shortest(plan):.3g} in half log-SNR is below the resolution of the "
            f"reference's paths ({reference.tol:.3g}): make the reference with the finest "
            "grid first"
        )

"""Strong error of a stochastic sampler on any model: its distance from a fine solution on the same
Brownian path.

``E|X_h - X|^2`` needs the two to be driven by one path (Kloeden & Platen 1992, sec. 9.6): every
sample has a path of its own in half log-SNR (``engine.paths``), and the reference is a run on a
grid that divides every step of the sampler's. The reference's own error is measured by a run on
half as fine a grid. The last step to sigma = 0 stays one step, as all samplers end.
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
from ...engine.sampling import run, start_state
from ...fused.noise.seeded import check_seeds, seeds_from
from ...models.denoiser import Condition, Denoiser
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
from .precision import InOwnPrecision
from .trajectory import rms


@dataclass(frozen=True, eq=False)
class PathReference:
    """Fine solutions of the SDE from given starts on the paths of ``seeds``.

    Attributes:
        ends: the first node and the last two, which it shares with what is compared with it.
        seeds, tol: of the paths, one a sample; every step of a run on them is at least ``tol`` long
            in half log-SNR (2^-12, or less where steps are shorter; another ``tol`` is another
            path).
        tau: diffusion strength.
        start, end: states (B, *shape) at the first and the last node.
        error: RMS distance of ``end`` from a solution of half as many steps: an upper estimate of
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
    """Error of a stochastic sampler along its paths; where it is not ``converged`` a finer
    reference is needed."""


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
        n, seed, seeds, shape, cond: the samples, each seed with its start noise and its path.
        refine: parts that the reference divides every step into, an even number.
        reference: of an earlier call with the same seeds and ends, to save its cost; make it with
            the finest grid.
        reference_sampler: name and options of the reference's sampler, of the same strength tau;
            the sampler itself by default, which does not show a sampler that converges to something
            else.
        batch: samples in one network call, all by default; the result does not depend on it where
            the network's rows do not.
        dtype: of the states; the model computes in its own.

    Raises ScoreError for a driver, for a sampler without noise (``solver_error`` is for those), for
    one whose noise is no increment of a path (churn, restarts), and for a reference that does not
    fit.
    """
    integer("refine", refine, 2, 4096)
    if refine % 2:
        raise ScoreError(
            f"refine={refine}: an even number is wanted, half of which measures the "
            "reference's error"
        )
    where = GridRequest(steps, nfe, grid, final=final)
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
    """The plan of a sampler that follows a path; ScoreError, with the reason, for others."""
    if asked.driver:
        raise ScoreError(
            f"{asked.name} is a driver, which draws its noises as it goes: compare its "
            "samples' distribution instead"
        )
    plan = asked.plan()
    if not plan.stochastic:
        raise ScoreError(
            f"{asked.name} draws no noise with these options: its error is that of solver_error"
        )
    if any(draw.end.rho >= draw.start.rho for draw in plan.draws):
        raise ScoreError(
            f"{asked.name} adds noise in jumps to a higher level, which are no increments of "
            "a path: see weak errors"
        )
    return plan


def shortest(plan: Plan) -> float:
    """The shortest draw of ``plan`` in half log-SNR."""
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
    """``grid`` with every step cut into ``parts``: equal in half log-SNR, in the angle where it
    starts at alpha = 0, one where it ends at sigma = 0."""
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
    """The first node and the last; between them the one from which the step to sigma = 0 is taken,
    if there is one."""
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
            "the given reference has other seeds or another start, or ends elsewhere, than "
            "the sampler"
        )
    tau = registry.get(asked.name).tau_of(asked.options)
    if reference.tau != tau:
        raise ScoreError(
            f"the given reference has tau = {reference.tau}, {asked.name} has {tau}: they "
            "solve different SDEs"
        )
    if shortest(plan) < reference.tol * (1.0 - 1e-9):
        raise ScoreError(
            f"a step of {shortest(plan):.3g} in half log-SNR is shorter than the reference's "
            f"paths resolve ({reference.tol:.3g}): make the "
            "reference with the finest grid first"
        )

"""Inversion of a sampler's own steps: for each step, from the last to the first, the state is found
that the step maps to the state after it.

    fixed_point  x <- x + (y - F(x)) / A, where F is the step, y the state after it, and A the
                 factor of x in F, alpha_t / alpha_s (AIDI, Pan et al. 2023, arXiv 2309.04907,
                 without its acceleration). It converges where a step is short against the
                 curvature of the model
    newton       Newton-Raphson (Samuel et al. 2023, arXiv 2312.12540): the linear equation of each
                 iteration is solved by a few GMRES steps, with products of the Jacobian by
                 differences, so that the network's derivative counts (the published code leaves
                 it out); without that paper's prior term

Both make a fixed number of iterations, so nothing waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models.base import BaseDenoiser, RunFacts
from ..plans.plan import Plan
from ..plans.running.loop import run_plan
from ..samplers import registry
from ..schedules.grids.construction import Grid

Cond = Tensor | Mapping[str, Tensor] | None
Report = Callable[[int, int], None]
Step = Callable[[Tensor], Tensor]

#: method -> default number of iterations
ITERATIONS = {"fixed_point": 20, "newton": 3}
#: Jacobian products of one Newton iteration
KRYLOV = 4


@dataclass(frozen=True)
class Implicit:
    """How the steps are inverted: ``method``, one of ``ITERATIONS``, and ``iterations`` a step."""

    method: str
    iterations: int

    @property
    def steps(self) -> int:
        """How often each step is made."""
        return self.iterations * (1 + (KRYLOV if self.method == "newton" else 0))


def single_steps(name: str, grid: Grid, options: Any) -> list[Plan]:
    """The plans of the steps of a sampler, one each. Raises SamplerError for a sampler whose steps
    depend on earlier ones."""
    whole = registry.build(name, grid, options)
    try:
        plans = [registry.build(name, _part(grid, i), options) for i in range(grid.steps)]
        made = [c for plan in plans for c in plan.coefficients]
    except (ValueError, ZeroDivisionError):
        made = []
    same = len(made) == len(whole.coefficients) and all(
        math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
        for a, b in zip(made, whole.coefficients, strict=True)
    )
    if not same:
        raise registry.SamplerError(
            f"{name} uses predictions of earlier steps, so its steps cannot be inverted one by "
            "one; use ddim, heun, flow_euler or flow_heun, or inversion='reversed'"
        )
    return plans


def _part(grid: Grid, i: int) -> Grid:
    """Step ``i`` of the grid as a grid of its own."""
    return Grid(
        grid.schedule,
        grid.times[i : i + 2],
        grid.nodes[i : i + 2],
        grid.name,
        (*grid.params, ("step", i)),
        grid.final,
    )


def invert_steps(
    how: Implicit,
    plans: Sequence[Plan],
    denoiser: BaseDenoiser,
    x: Tensor,
    cond: Cond,
    report: Report | None,
) -> tuple[Tensor, int]:
    """Invert the steps ``plans`` from the last to the first, beginning at ``x`` (B, *shape). Return
    the state at the first node and the number of network calls."""
    own, solve = denoiser.for_run(RunFacts((), None, True)), _METHODS[how.method]
    total, made = how.steps * sum(plan.nfe for plan in plans), 0
    with torch.no_grad():
        for plan in reversed(plans):

            def step(state: Tensor, plan: Plan = plan) -> Tensor:
                return run_plan(plan, own, state, cond=cond)

            x = solve(step, x, _factor(plan, denoiser), how.iterations)
            made += how.steps * plan.nfe
            if report is not None:
                report(made, total)
    return x, made


def _factor(plan: Plan, denoiser: BaseDenoiser) -> float:
    """About how much the step changes the size of a state: the ratio of the alphas, and from
    alpha = 0 that of the standard deviations."""
    s, t = plan.start, plan.end
    if s.alpha > 0.0:
        return t.alpha / s.alpha
    std = denoiser.sigma_data or 1.0
    return math.hypot(t.alpha * std, t.sigma) / math.hypot(s.alpha * std, s.sigma)


def _fixed_point(step: Step, y: Tensor, factor: float, iterations: int) -> Tensor:
    x = y / factor
    for _ in range(iterations):
        x = x + (y - step(x)) / factor
    return x


def _newton(step: Step, y: Tensor, factor: float, iterations: int) -> Tensor:
    x = y / factor
    for _ in range(iterations):
        now = step(x)
        x = x + _gmres(step, x, now, (y - now) / factor, factor)
    return x


def _gmres(step: Step, x: Tensor, now: Tensor, residual: Tensor, factor: float) -> Tensor:
    """The least-squares solution d of ``J d / factor = residual`` in the Krylov space of
    ``KRYLOV`` vectors, for each sample; J is the Jacobian of ``step`` at x, where it gives
    ``now``."""
    wide = torch.promote_types(x.dtype, torch.float32)
    shape, size = x.shape, x[0].numel()
    tiny = torch.finfo(wide).tiny
    # the step of the differences, relative to the state
    reach = math.sqrt(torch.finfo(x.dtype).eps) * (x.to(wide).flatten(1).norm(dim=1) + 1.0)
    start = residual.to(wide).flatten(1)
    beta = start.norm(dim=1)
    basis = [start / beta.clamp(min=tiny)[:, None]]
    count = min(KRYLOV, size)
    h = start.new_zeros(len(x), count + 1, count)
    for j in range(KRYLOV):
        moved = step(x + (reach[:, None] * basis[min(j, count - 1)]).view(shape).to(x))
        if j >= count:  # as many calls for every shape of sample
            continue
        w = (moved.to(wide) - now.to(wide)).flatten(1) / (reach * factor)[:, None]
        for i, v in enumerate(basis):
            h[:, i, j] = (w * v).sum(1)
            w = w - h[:, i, j, None] * v
        h[:, j + 1, j] = w.norm(dim=1)
        basis.append(w / h[:, j + 1, j].clamp(min=tiny)[:, None])
    gram = h.mT @ h
    trace = gram.diagonal(dim1=1, dim2=2).sum(1) + 1.0  # regular where nothing is left to solve
    gram = gram + (torch.finfo(wide).eps * trace)[:, None, None] * torch.eye(
        count, dtype=wide, device=x.device
    )
    weights = torch.linalg.solve(gram, beta[:, None] * h[:, 0])
    found = sum(weights[:, j, None] * basis[j] for j in range(count))
    return torch.as_tensor(found).view(shape).to(x)


_METHODS = {"fixed_point": _fixed_point, "newton": _newton}

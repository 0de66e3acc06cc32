"""Inversion of a sampler's own steps: for each step, from the last to the first, the state is found
that the step maps to the state after it.

    fixed_point  x <- x + (y - F(x)) / A, where F is the step, y the state after it, and A the
                 factor of x in F, alpha_t / alpha_s (AIDI, Pan et al. 2023, arXiv 2309.04907,
                 without its acceleration). It converges where a step is short against the
                 curvature of the model
    newton       Newton-Raphson (Samuel et al. 2023, arXiv 2312.12540): the linear equation of each
                 iteration is solved by a few GMRES steps, with products of the Jacobian by
                 differences, so that the network's derivative counts (the published code leaves
                 it out)

Both make a fixed number of iterations, so nothing waits for the device.

``prior`` = w > 0 regularises Newton-Raphson: x minimises, by Gauss-Newton,

    |(F(x) - y) / A|^2 + w |x - y / A|^2

y / A is the mean of the forward path's q(x | y), so that of several solutions the likely one is
found, and none that is far away. The paper minimises ``|x - f(x)|_1 + w |x - mean|`` by steps of
one scalar equation, with 1 / beta before the second term for DDIM and 1 for Euler steps; the norms
are squared here, so that linear equations by conjugate gradients lead to the minimum; these take a
backward pass of the network for each of their products. The price of w is an error of the
reconstruction in proportion to it.
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
from ..plans.transforms.gradients import GradientError
from ..samplers import registry
from ..schedules.grids.construction import Grid
from .gradients import Inspected
from .krylov import KRYLOV, Differentiated, Linearised, gmres, ridge

Cond = Tensor | Mapping[str, Tensor] | None
Report = Callable[[int, int], None]
Step = Callable[[Tensor], Tensor]

#: method -> default number of iterations
ITERATIONS = {"fixed_point": 20, "newton": 3}


@dataclass(frozen=True)
class Implicit:
    """How the steps are inverted: ``method``, one of ``ITERATIONS``, ``iterations`` a step, and
    ``prior``, the weight of the prior term of ``newton``."""

    method: str
    iterations: int
    prior: float = 0.0

    @property
    def steps(self) -> int:
        """How often each step is made."""
        return self.iterations * (1 + (KRYLOV if self.method == "newton" else 0))

    def solved(self, step: Step, y: Tensor, factor: float) -> Tensor:
        """The state x with ``step(x) = y``; ``factor`` is about the size of y by that of x."""
        if self.method == "fixed_point":
            return _fixed_point(step, y, factor, self.iterations)
        return _newton(step, y, factor, self.iterations, self.prior)


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
    own = denoiser.for_run(RunFacts((), None, True))
    if how.prior > 0.0:
        if torch.is_inference_mode_enabled():
            raise GradientError(
                f"prior={how.prior} inside torch.inference_mode(): its backward passes need "
                "torch.no_grad() at most"
            )
        own = Inspected(own)
    total, made = how.steps * sum(plan.nfe for plan in plans), 0
    with torch.no_grad():
        for plan in reversed(plans):

            def step(state: Tensor, plan: Plan = plan) -> Tensor:
                return run_plan(plan, own, state, cond=cond, graph=state.requires_grad)

            x = how.solved(step, x, _factor(plan, denoiser))
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


def _newton(step: Step, y: Tensor, factor: float, iterations: int, prior: float) -> Tensor:
    x = mean = y / factor
    for _ in range(iterations):
        if prior > 0.0:
            local = Differentiated(step, x, factor)
            x = x + ridge(local, (y - local.now) / factor, mean - x, prior)
        else:
            now = step(x)
            x = x + gmres(Linearised(step, x, now, factor), (y - now) / factor)
    return x

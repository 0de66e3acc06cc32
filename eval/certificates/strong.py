"""Strong error of stochastic samplers: all step counts and the reference follow the same Brownian
path.

In ``y = x / alpha`` and lam the reverse SDE with diffusion strength tau is
``dy = -kappa (y - D) dlam + sqrt(2) tau rho dW``, kappa = 1 + tau^2, rho = e^{-lam} (Xue et al.
2023, arXiv 2309.05019, eq. 8). On Gaussian data ``N(m, s^2)``, with ``v = s^2 + rho^2``, its strong
solution is

    y_t - m = (v_t / v_s)^{kappa/2} (y_s - m)
              + sqrt(2) tau int_s^t (v_t / v_r)^{kappa/2} rho_r dW_r.

The reference integrates with the increments W and space-time integrals H of small intervals of
length h, where the integral of a smooth g is ``g_a W + (g_b - g_a) (W/2 - H)`` to O(h^2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ...checks import ArgumentError
from ...engine.paths import LAM_LIMIT, LamPath, PlanPath
from ...fused.noise.seeded import SeededNoise, seeds_from
from ...models import GaussianMixture
from ...plans.plan import Plan
from ...plans.running.loop import run_plan
from ...schedules.base import Schedule
from ...schedules.node import Node
from .gaussian import MEAN, STD
from .slopes import slope

#: resolution of the paths, below the smallest step
TOLERANCE = 2.0**-12
#: number of intervals of the reference
REFERENCE = 256


class Strong(NamedTuple):
    """Strong errors (N, RMS error of the last state) and their order, the slope of -log error over
    log N."""

    errors: tuple[tuple[int, float], ...]
    slope: float


def exact_end(
    start: Node, end: Node, x: Tensor, seeds: Sequence[int], tau: float, intervals: int = REFERENCE
) -> Tensor:
    """The state at ``end`` of the SDE on the Gaussian data of ``gaussian`` from ``x`` (B, *shape),
    float64, at ``start``, on the paths of ``seeds``."""
    kappa = 1.0 + tau * tau
    path = LamPath(seeds, tol=TOLERANCE)
    lams = [start.lam + (end.lam - start.lam) * k / intervals for k in range(intervals + 1)]

    def variance(lam: float) -> float:
        return STD**2 + math.exp(-2.0 * lam)

    kernel = [(variance(end.lam) / variance(lam)) ** (0.5 * kappa) * math.exp(-lam) for lam in lams]
    total = torch.zeros_like(x)
    for k, (w, h) in enumerate(path.path.levies(list(pairwise(lams)), x)):
        total += kernel[k] * w + (kernel[k + 1] - kernel[k]) * (0.5 * w - h)
    carry = (variance(end.lam) / variance(start.lam)) ** (0.5 * kappa)
    out: Tensor = end.alpha * (
        MEAN + carry * (x / start.alpha - MEAN) + math.sqrt(2.0) * tau * total
    )
    return out


def strong_errors(
    plan_of: Callable[[int], Plan],
    schedule: Schedule,
    tau: float,
    *,
    steps: Sequence[int] = (20, 40, 80, 160),
    noise: str = "brownian",
    seeds: Sequence[int] | None = None,
    width: int = 64,
) -> Strong:
    """Strong errors of the plans ``plan_of(N)``, which must share start and end, on the Gaussian
    data.

    Args:
        tau: declared diffusion strength of the plans.
        noise: ``brownian``, or ``independent`` draws (a control, which does not converge).
        seeds: one per sample of ``width`` elements, each with its own path (default 32 seeds).

    Raises ValueError for plans without noise, and for ends outside the range of the path.
    """
    chosen = tuple(seeds) if seeds is not None else seeds_from(0, 32)
    first = plan_of(steps[0])
    start, end = first.start, first.end
    if not first.stochastic:
        raise ArgumentError("a plan without noise has no strong error")
    if not max(abs(start.lam), abs(end.lam)) <= LAM_LIMIT:
        raise ArgumentError(
            f"a grid between lam = {start.lam} and {end.lam}: allowed is |lam| <= {LAM_LIMIT}"
        )
    z = SeededNoise(chosen).start((width,), dtype=torch.float64)
    x = start.alpha * MEAN + math.hypot(start.alpha * STD, start.sigma) * z
    wanted = exact_end(start, end, x, chosen, tau)
    ones = torch.ones(1, width, dtype=torch.float64)
    model = GaussianMixture(MEAN * ones, STD, torch.ones(1), schedule)
    errors = []
    for n in steps:
        plan = plan_of(n)
        source = (
            PlanPath(plan, chosen, tol=TOLERANCE) if noise == "brownian" else SeededNoise(chosen)
        )
        errors.append(
            (n, float((run_plan(plan, model, x, noise=source) - wanted).square().mean().sqrt()))
        )
    return Strong(tuple(errors), slope(errors))

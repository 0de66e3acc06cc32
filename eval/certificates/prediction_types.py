"""Orders and rounding through the loop: one plan with networks of every prediction type, and with
states of lower precision.

A plan asks for x0, eps or velocities; the network's prediction type is folded into the coefficients
when the plan is lowered, so the order must be the same for all types. It is measured between two
step counts, with the exact mixture of ``problem`` predicting eps, x0, v, velocity or score
(stochastic plans: the weak error on Gaussian data, from one run of a batch of unit inputs).
Rounding is the largest difference between a run in fp32 or bf16 and the same run in float64, over
20 steps to sigma = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...models import GaussianMixture
from ...models.denoiser import Denoiser
from ...plans.plan import Plan
from ...plans.running.channels import network_raws
from ...plans.running.loop import Cursor
from ...samplers import registry
from ...schedules.base import Schedule
from ...schedules.grids.construction import grid
from ...schedules.kinds import KINDS
from .certification import certified_options, home_schedule, tolerance
from .gaussian import MEAN, STD, Affine, law_errors
from .problem import exact_states, mixture, smooth_grid
from .slopes import FLOOR

#: pairs (fine, coarse) of step counts; the first pair whose finer error is above rounding is used.
#: Weak errors need more steps to reach their slope.
PAIRS, WEAK_PAIRS = ((320, 160), (160, 80), (80, 40)), ((1280, 640), (640, 320))
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ROUNDING_STEPS = 20
#: allowed spread of the orders over prediction types, due to rounding of the finest error
AGREEMENT = 0.05


@dataclass(frozen=True)
class PredictionTypes:
    """Orders by prediction type, and rounding, of one sampler with one set of options.

    Attributes:
        orders: measured order by the network's prediction type (weak order when ``stochastic``);
            empty where no order is declared.
        rounding: largest difference from the run in float64, by dtype.
    """

    name: str
    options: Mapping[str, Any]
    stochastic: bool
    declared: float
    orders: Mapping[str, float]
    rounding: Mapping[str, float]

    @property
    def passed(self) -> bool:
        """Whether all orders agree, and lie within twice the certificate's tolerance of the
        declared order (the step counts are coarse)."""
        orders = list(self.orders.values()) or [self.declared]
        near = all(abs(order - self.declared) <= 2.0 * tolerance(self.declared) for order in orders)
        return near and max(orders) - min(orders) <= AGREEMENT


def certify_prediction_types(sampler: str, **options: Any) -> PredictionTypes:
    """Measure the orders of ``sampler`` with ``options`` for every prediction type, and its
    rounding in fp32 and bf16 (lower-order final steps off)."""
    entry, chosen = registry.get(sampler), certified_options(sampler, options)
    schedule = home_schedule(sampler)
    order = entry.order_of(chosen)
    stochastic = entry.tau_of(chosen) > 0.0

    def error(kind: str, steps: int) -> float:
        plan = registry.build(sampler, smooth_grid(schedule, steps), chosen)
        return (
            law_error(plan, schedule, kind)
            if stochastic
            else path_error(plan, schedule, kind, math.ceil(order) + 2)
        )

    plan = registry.build(sampler, grid("lam", schedule, ROUNDING_STEPS), chosen)
    return PredictionTypes(
        sampler,
        options,
        stochastic,
        order,
        {kind: _order(partial(error, kind), WEAK_PAIRS if stochastic else PAIRS) for kind in KINDS}
        if order
        else {},
        {name: rounding(plan, schedule, dtype) for name, dtype in DTYPES.items()},
    )


def _order(error: Callable[[int], float], pairs: Sequence[tuple[int, int]]) -> float:
    """``log2`` of the error ratio of the finest pair whose finer error is above rounding."""
    for fine, coarse in pairs:
        e = error(fine)
        if e > FLOOR:
            return math.log2(error(coarse) / e) / math.log2(fine / coarse)
    return math.inf


def loop_result(
    plan: Plan,
    denoiser: Denoiser,
    x: Tensor,
    known: Mapping[Any, Tensor] | None = None,
    noise: Any = None,
) -> Tensor:
    """Run ``plan`` on ``denoiser`` from ``x``, with the states at the nodes of ``known`` replaced
    by its values."""
    cursor = Cursor(plan, denoiser, x, noise)
    while (call := cursor.call) is not None:
        if known and call.node in known:
            cursor.replace(known[call.node])
        t, to = float(call.node.t or 0.0), None if call.to is None else call.to.t
        cursor.step(network_raws(denoiser, cursor.x_in, t, None, call.channels, to))
    return cursor.result


def path_error(plan: Plan, schedule: Schedule, kind: str, warm: int) -> float:
    """Largest error of the final states on the mixture, with exact states at the first ``warm``
    step boundaries."""
    known = {node: exact_states(node) for node in plan.nodes[1 : warm + 1]}
    out = loop_result(plan, mixture(schedule, kind), exact_states(plan.start), known)
    return float((out - exact_states(plan.end)).abs().max())


def law_error(plan: Plan, schedule: Schedule, kind: str) -> float:
    """Weak error of a stochastic plan on Gaussian data, from one run through the loop.

    The last state is affine in the start state and the noises: row 0 of the batch has zero inputs,
    row 1 a unit start state, row 2 + k a unit noise k.
    """
    draws = len(plan.draws)
    one = torch.ones(1, dtype=torch.float64)
    model = GaussianMixture(MEAN * one[:, None], STD * one, one, schedule, kind)
    x = torch.zeros(2 + draws, 1, dtype=torch.float64)
    x[1] = 1.0
    rows = torch.eye(2 + draws, dtype=torch.float64)
    out = (
        loop_result(plan, model, x, noise=lambda key, like: rows[:, 2 + key : 3 + key])
        .flatten()
        .tolist()
    )
    affine = Affine(out[0], out[1] - out[0], tuple(v - out[0] for v in out[2:]))
    return max(law_errors(affine, plan.start, plan.end))


def rounding(plan: Plan, schedule: Schedule, dtype: torch.dtype) -> float:
    """Largest difference between the runs with states of ``dtype`` and in float64, from the same
    states; all noises are 1."""
    start = 1.0 if schedule.prior_scale == 1.0 else schedule.prior_scale
    x = (start * torch.linspace(-1.5, 1.5, 8, dtype=torch.float64)[:, None]).to(dtype)
    model = mixture(schedule, "v")
    exact = loop_result(plan, model, x.double(), noise=lambda key, like: torch.ones_like(like))
    return float(
        (
            loop_result(plan, model, x, noise=lambda key, like: torch.ones_like(like)).double()
            - exact
        )
        .abs()
        .max()
    )

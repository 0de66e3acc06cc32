"""Order certificates: a sampler's order from the order walk (without a network) and measured
against exact solutions.

Deterministic samplers run on the mixture of ``problem`` with exact start-up states; the measured
order is the slope of the largest error over the finest three step counts whose error is above
rounding. Stochastic samplers are measured by the weak error of ``gaussian``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ...checks import choice
from ...plans.instructions import Exactness
from ...plans.plan import Plan
from ...plans.running.loop import Cursor, NumericalError, run_plan
from ...plans.walk import walked_order
from ...samplers import registry
from ...schedules import Flow, VPLinear
from ...schedules.base import Schedule
from ...schedules.grids.construction import grid
from ..solver.counting import Counting
from .gaussian import weak_errors
from .problem import exact_states, mixture, mixture_eps, smooth_grid
from .slopes import FLOOR, slope

STEPS = (40, 80, 160, 320, 640, 1280, 2560)


@dataclass(frozen=True)
class Certificate:
    """Declared, walked and measured order of one sampler with one set of options.

    Attributes:
        name, options: of the sampler; ``on`` among the options is the path.
        stochastic: whether the orders are weak orders.
        declared, walked, measured: orders; a declared 0 means no order, and the others are NaN.
        error_constant: error at the finest step count used, times ``N^declared``.
        nfe: network calls predicted for 10 steps to sigma = 0; ``counted``: calls actually made.
        errors: (N, error) pairs.
        exactness: level that the type check measured for the plan of 10 steps.
    """

    name: str
    options: Mapping[str, Any]
    stochastic: bool
    declared: float
    walked: float
    measured: float
    error_constant: float
    nfe: int
    counted: int
    errors: tuple[tuple[int, float], ...]
    exactness: Exactness = "exact"

    @property
    def tolerance(self) -> float:
        """Allowed difference of walked and measured from declared, on both sides."""
        return tolerance(self.declared)

    @property
    def passed(self) -> bool:
        """Whether orders and calls agree. A stochastic sampler may walk above what it declares, and
        one that the walk does not describe has the walked order NaN."""
        if not self.declared:
            return self.nfe == self.counted
        orders = (
            (self.measured,)
            if self.stochastic and (math.isnan(self.walked) or self.walked >= self.declared)
            else (self.walked, self.measured)
        )
        return (
            all(abs(order - self.declared) <= self.tolerance for order in orders)
            and self.nfe == self.counted
        )


def tolerance(declared: float) -> float:
    """Allowed difference of an order from ``declared``, on both sides."""
    return 0.15 if declared <= 3 else 0.25


#: schedules by the names in ``Sampler.on``
PATHS: Mapping[str, Schedule] = {"vp": VPLinear(), "flow": Flow()}


def home_schedule(name: str) -> Schedule:
    """The schedule of the sampler's first path."""
    return PATHS[registry.get(name).on[0]]


def certified_options(sampler: str, options: Mapping[str, Any]) -> Any:
    """The sampler's options dataclass from ``options``, with lower-order final steps off."""
    entry = registry.get(sampler)
    fields = {f.name for f in dataclasses.fields(entry.options)}
    off = {"lower_order_final": False} if "lower_order_final" in fields else {}
    return registry.make_options(entry, {**off, **options})


def certify(sampler: str, *, on: str | None = None, **options: Any) -> Certificate:
    """Measure the order of ``sampler`` with ``options`` (lower-order final steps off).

    ``on``: the path, one of the sampler's ``on``; default the first of them.
    """
    entry, chosen = registry.get(sampler), certified_options(sampler, options)
    schedule = PATHS[entry.on[0] if on is None else choice("on", on, entry.on)]
    tau, order = entry.tau_of(chosen), entry.order_of(chosen)
    plan, counted = _count(sampler, schedule, chosen)
    counted_only = Certificate(
        sampler,
        options if on is None else {**options, "on": on},
        stochastic=tau > 0.0,
        declared=order,
        walked=math.nan,
        measured=math.nan,
        error_constant=math.nan,
        nfe=plan.nfe,
        counted=counted,
        errors=(),
        exactness=plan.exactness,
    )
    if not order:
        return counted_only

    def plan_of(n: int) -> Plan:
        return registry.build(sampler, smooth_grid(schedule, n), chosen)

    errors = _errors(plan_of, schedule, stochastic=tau > 0.0, warm=math.ceil(order) + 2)
    measured, constant = _order_and_constant(errors, order)
    # kappa = 1 + tau^2; samplers whose strength varies give theirs as `decay`
    walked = math.nan
    if entry.walks or not tau:
        walked = walked_order(plan_of, kappa=getattr(chosen, "decay", 1.0 + tau * tau))
    return dataclasses.replace(
        counted_only,
        walked=walked,
        measured=measured,
        error_constant=constant,
        errors=tuple(errors),
    )


def certify_all() -> list[Certificate]:
    """Certificates of every registered plan sampler: defaults and variants, on each of its
    paths."""
    out: list[Certificate] = []
    for name in registry.names():
        entry = registry.get(name)
        if entry.form == "plan":
            cases = product((None, *entry.on[1:]), ({}, *entry.variants))
            out.extend(certify(name, on=on, **options) for on, options in cases)
    return out


def _errors(
    plan_of: Callable[[int], Plan], schedule: Schedule, *, stochastic: bool, warm: int
) -> list[tuple[int, float]]:
    errors: list[tuple[int, float]] = []
    for n in STEPS:
        plan = plan_of(n)
        error = max(weak_errors(plan)) if stochastic else trajectory_error(plan, schedule, warm)
        if error < FLOOR:
            break
        errors.append((n, error))
    return errors


def trajectory_error(plan: Plan, schedule: Schedule, warm: int = 0) -> float:
    """Largest error of the final states on the mixture, with exact states at the first ``warm``
    step boundaries."""
    error = float((final_states(plan, schedule, warm) - exact_states(plan.end)).abs().max())
    if not math.isfinite(error):
        raise NumericalError("the result", plan.nfe, plan.end.t, ())
    return error


def final_states(plan: Plan, schedule: Schedule, warm: int = 0) -> Tensor:
    """The states of ``problem`` at the end of ``plan``, (n, 1), by the loop itself, with exact
    predictions computed in numpy."""
    cursor = Cursor(plan, mixture(schedule), exact_states(plan.start))
    known = set(plan.nodes[1 : warm + 1])
    while not cursor.done:
        if cursor.node in known:
            cursor.replace(exact_states(cursor.node))
        cursor.step((torch.from_numpy(mixture_eps(cursor.node, cursor.x.numpy())),))
    return cursor.result


def _order_and_constant(errors: list[tuple[int, float]], order: float) -> tuple[float, float]:
    """Order and error constant: the slope over the finest three step counts whose error is above
    rounding, and the finest error times ``N^order``."""
    if not errors:
        return math.inf, 0.0
    return slope(errors[-3:]), errors[-1][1] * errors[-1][0] ** order


def _count(sampler: str, schedule: Schedule, options: Any) -> tuple[Plan, int]:
    plan = registry.build(sampler, grid("lam", schedule, 10), options)
    model = Counting(mixture(schedule, "v"))  # serves alpha = 0 as well
    x = torch.full((1, 1), 0.3, dtype=torch.float64)
    run_plan(plan, model, x, noise=lambda key, like: torch.zeros_like(like))
    return plan, model.calls

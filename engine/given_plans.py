"""``fewstep.sample(den, plan=...)``: a plan instead of a sampler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..checks import instance, shown
from ..plans.instructions import PlanError
from ..plans.plan import Plan
from ..samplers.registry import SamplerError
from ..schedules.base import Schedule
from ..schedules.grids.request import GridRequest
from ..schedules.node import Node
from .automatic import AUTO
from .planning import Request, request, requested_plan
from .provenance import check_made_for_schedule
from .tuned import Tuned

#: how far a node of a plan may lie from the schedule, as a share
_NEAR = 1e-9


def asked_of(
    plan: Plan | Tuned | None,
    sampler: str,
    schedule: Schedule,
    options: Mapping[str, Any],
    where: GridRequest,
) -> Request:
    """The request of ``plan``; without one that of ``sampler``.

    SamplerError where a sampler, its options or a grid are given beside the plan; PlanError for a
    plan of another schedule.
    """
    if plan is None:
        return request(sampler, schedule, options, where)
    instance("plan", plan, (Plan, Tuned), "a plan, as fewstep.plan or fewstep.tune makes it,")
    named = {} if sampler == AUTO else {"sampler": sampler}
    for key, value in {**named, **options}.items():
        raise SamplerError(
            f"plan= is a sampler with its options and times, so {key}={shown(value)} cannot be "
            "used: leave one of the two out"
        )
    if isinstance(plan, Tuned):
        check_made_for_schedule("plan", plan.made_for, schedule)
        asked = requested_plan("plan", plan.plan, schedule, where)
        return replace(asked, made_for=plan.made_for)
    for node in (plan.start, plan.end):
        _check_node(node, schedule)
    return requested_plan("plan", plan, schedule, where)


def _check_node(node: Node, schedule: Schedule) -> None:
    """PlanError unless ``node`` lies on ``schedule``, or is its data."""
    if node.t is None or node.sigma == 0.0:
        return
    own = schedule.node(node.t) if schedule.t_low <= node.t <= schedule.t_max else None
    pairs = [] if own is None else [(own.alpha, node.alpha), (own.sigma, node.sigma)]
    if not pairs or any(abs(a - b) > _NEAR * max(a, b) for a, b in pairs):
        raise PlanError(
            f"plan: its state at t = {node.t:.6g} has alpha = {node.alpha:.6g}, sigma = "
            f"{node.sigma:.6g}, and {schedule!r:.120} has not; fewstep.run takes any plan"
        )

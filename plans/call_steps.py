"""The step of the grid that each network call of a plan belongs to."""

from __future__ import annotations

from .instructions import Combine, Evaluate, PlanData


def call_steps(plan: PlanData) -> tuple[int, ...]:
    """Return for each network call the index of the furthest grid node that a state was claimed at
    before it: 0 for calls of the first step, and so on.

    A call at a stage, or at a noisier time (churn, restart), counts to the step under way. The
    second call of Heun's step, at the next node, counts to the next step, as that step's first
    call at the same node does.
    """
    place = {node: j for j, node in enumerate(plan.nodes)}
    step, found = 0, []
    for i in plan.code:
        if isinstance(i, Combine):
            step = max(step, place.get(i.node, 0)) if i.node is not None else step
        elif isinstance(i, Evaluate):
            found.append(step)
    return tuple(found)

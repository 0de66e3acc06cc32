"""Analytic first step: replaces the first network call of a plan by a closed form and so saves one
call (Dockhorn et al. 2022, arXiv 2210.05475, sec. 3.3, "AFS").

At the start the state is nearly pure noise, so the prediction is taken linear in the state, with
``r^2 = alpha^2 + sigma^2``:

    rule     x0                          eps              exact for
    prior    alpha x / r^2               sigma x / r^2    data N(0, I) (the score -x / r^2)
    unit     alpha x / (r (r + sigma))   x / r            nothing (zju-pi/diff-sampler)
    zero     0                           x / sigma        data that are 0 (arXiv 2312.07243)

``unit`` gives the noise norm 1. All agree where alpha = 0. The new plan is type-checked: it does
not map straight lines to straight lines, so its exactness is ``asymptotic``, and ``defect`` is the
mismatch of the first states.
"""

from __future__ import annotations

import math

from ...checks import ArgumentError, unknown
from ...schedules.kinds import parts
from ...schedules.node import Node
from ..builder import Expression, PlanBuilder
from ..instructions import Evaluate, PlanError
from ..plan import Plan

RULES = ("prior", "unit", "zero")


def analytic_first_step(plan: Plan, rule: str = "prior") -> Plan:
    """``plan`` with its first Evaluate replaced by a Combine of the state by ``rule``. PlanError
    where no other Evaluate is left, or where the first has two times."""
    if rule not in RULES:
        raise ArgumentError(unknown("afs", rule, RULES))
    if plan.nfe < 2:
        raise PlanError(
            f"{plan.name or 'plan'}: afs takes the only network call of {plan.nodes[0]} to "
            f"{plan.nodes[-1]}; use more steps"
        )
    b = PlanBuilder(plan.nodes, "asymptotic", plan.name)
    b.start(plan.start)
    for draw in plan.draws:
        b.noise(draw.start, draw.end)
    first = True
    for i in plan.code:
        if not isinstance(i, Evaluate):
            x = Expression({**dict(i.terms), **{-1 - key: c for key, c in i.noise}})
            b.value(x) if i.node is None else b.at(i.node, x)
        elif first:
            first = False
            if i.to is not None:
                raise PlanError(f"{plan.name or 'plan'}: afs has no rule for a call with two times")
            for _, kind, _ in i.outs:
                b.value(Expression({i.state: _share(kind, i.node, rule)}))
        else:
            reads = tuple((kind, channel) for _, kind, channel in i.outs)
            b.evaluate_kinds(Expression({i.state: 1.0}), i.node, reads, i.to)
    partners = [Expression({value: 1.0}) for value in plan.partners]
    return b.finish(Expression({plan.result: 1.0}), partners)


def _share(kind: str, node: Node, rule: str) -> float:
    """``c`` of the prediction ``kind = c x``."""
    u, w = parts(kind, node)
    r = math.hypot(node.alpha, node.sigma)
    if rule == "prior":
        x0, eps = node.alpha / r**2, node.sigma / r**2
    elif rule == "unit":
        x0, eps = node.alpha / (r * (r + node.sigma)), 1.0 / r
    else:
        x0, eps = 0.0, 1.0 / node.sigma
    return u * x0 + w * eps

"""What a plan claims about itself, measured anew from its instructions: nothing that a file says is
believed."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..checks import FewstepError
from .builder import TOLERANCE, Expression, PlanBuilder
from .instructions import Combine, Evaluate, Exactness, Plan, PlanError


class Measured(NamedTuple):
    """``Plan.exactness``, ``Plan.defect`` and ``Plan.off_label`` by the type check."""

    exactness: Exactness
    defect: float
    off_label: tuple[int, ...]


def measure(plan: Plan) -> Measured:
    """The type check of ``plans.builder`` on the instructions of a finished plan. PlanError where
    they are no program."""
    if not plan.nodes or plan.nodes[0] != plan.start:
        raise PlanError("the first of the nodes is not the plan's start")
    b = PlanBuilder(plan.nodes, "asymptotic", plan.name)
    values, drawn = {0: b.start(plan.start)}, 0
    for i in plan.code:
        if isinstance(i, Evaluate):
            made = b.evaluate_kinds(
                _value(values, i.state), i.node, tuple(kind for _, kind in i.outs)
            )
            for (value, _), found in zip(i.outs, made, strict=True):
                _define(values, value, found)
            continue
        for key, _ in i.noise:
            if not 0 <= key < len(plan.draws):
                raise PlanError(f"draw {key} is not in the plan's list of {len(plan.draws)}")
            while drawn <= key:
                b.noise(plan.draws[drawn].start, plan.draws[drawn].end)
                drawn += 1
        x = _expression(values, i)
        _define(values, i.out, b.value(x) if i.node is None else b.at(i.node, x))
    claimed = {plan.start, *(i.node for i in plan.code if isinstance(i, Combine))}
    lost = next((node for node in plan.nodes if node not in claimed), None)
    if lost is not None:
        raise PlanError(f"no state of the plan is at its node {lost}")
    if plan.result not in values:
        raise PlanError(f"the result, value {plan.result}, is never made")
    done = b.finish(values[plan.result])
    if done.end != plan.end or plan.nodes[-1] != plan.end:
        raise PlanError(
            f"the result is a state at {done.end}; the plan says its end is {plan.end}, its "
            f"last node {plan.nodes[-1]}"
        )
    return Measured(done.exactness, done.defect, done.off_label)


def check(plan: Plan) -> Plan:
    """``plan`` if it is what it claims to be; PlanError, naming the claim, otherwise."""
    try:
        with np.errstate(all="ignore"):
            found = measure(plan)
    except PlanError:
        raise
    except (FewstepError, ArithmeticError, LookupError) as error:
        raise PlanError(f"the plan cannot be followed: {error}") from error
    if found.exactness != plan.exactness:
        raise PlanError(
            f"the plan says {plan.exactness!r}; its coefficients make it "
            f"{found.exactness!r}, off by {found.defect:.1e}"
        )
    if not math.isclose(found.defect, plan.defect, rel_tol=1e-6, abs_tol=TOLERANCE):
        raise PlanError(
            f"the plan says defect={plan.defect!r}; its coefficients have {found.defect!r}"
        )
    if found.off_label != plan.off_label:
        raise PlanError(
            f"the plan says off_label={plan.off_label}; its evaluations have {found.off_label}"
        )
    return plan


def _value(values: dict[int, Expression], value: int) -> Expression:
    if value not in values:
        raise PlanError(f"value {value} is read before it is made")
    return values[value]


def _define(values: dict[int, Expression], value: int, found: Expression) -> None:
    if value in values:
        raise PlanError(f"value {value} is made twice")
    values[value] = found


def _expression(values: dict[int, Expression], i: Combine) -> Expression:
    terms: dict[int, float] = {}
    for value, c in i.terms:
        ((key, one),) = _value(values, value).terms.items()
        if key in terms:
            raise PlanError(f"value {i.out} reads value {value} twice")
        terms[key] = c * one
    for key, c in i.noise:
        if -1 - key in terms:
            raise PlanError(f"value {i.out} reads draw {key} twice")
        terms[-1 - key] = c
    return Expression(terms)

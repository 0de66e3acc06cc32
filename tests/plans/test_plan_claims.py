"""The claim ``b.at(node, ...)``: how far off a state may be, and what a plan is called that holds a
worse one."""

from __future__ import annotations

import math

import pytest

import fewstep
from fewstep.plans import Plan, PlanBuilder, PlanError
from fewstep.schedules import EDM, VPLinear
from fewstep.schedules.node import Node

VP = VPLinear()
S, T = VP.node_at_lam(-1.0), VP.node_at_lam(0.5)


def step(
    signal: float = 0.0, noise: float = 0.0, allow: str = "exact", s: Node = S, t: Node = T
) -> Plan:
    """One exact step whose end has a relative error in its signal, or in its noise."""
    b = PlanBuilder((s, t), allow=allow)
    x = b.start(s)
    D, e = b.evaluate_kinds(x, s, ("x0", "eps"))
    return b.finish(b.at(t, (t.alpha * (1.0 + signal)) * D + (t.sigma * (1.0 + noise)) * e))


@pytest.mark.parametrize("off", [1e-11, 1e-9, 1e-7, 1e-4, -1e-9])
def test_more_than_rounding_is_refused(off: float) -> None:
    for given in ({"signal": off}, {"noise": off}):
        with pytest.raises(PlanError, match="no state"):
            step(**given)
    with pytest.raises(PlanError, match="no state"):
        step(signal=off, allow="signal")


@pytest.mark.parametrize("off", [0.0, 1e-14, 3e-13])
def test_rounding_is_not(off: float) -> None:
    for given in ({"signal": off}, {"noise": off}):
        plan = step(**given)
        assert plan.exactness == "exact"
        assert plan.defect <= 1e-12


@pytest.mark.parametrize("off", [1e-11, 1e-6, 0.01])
def test_what_is_allowed_is_named_by_its_worst_part(off: float) -> None:
    for allow in ("signal", "asymptotic"):
        plan = step(noise=off, allow=allow)
        assert plan.exactness == "signal"
        assert plan.defect == pytest.approx(off * T.sigma / max(T.alpha, T.sigma), rel=1e-4)
    plan = step(signal=off, allow="asymptotic")
    assert plan.exactness == "asymptotic"
    assert plan.defect == pytest.approx(
        off * T.alpha / max(T.alpha * (1.0 + off), T.sigma), rel=1e-4
    )
    assert step(allow="asymptotic").exactness == "exact"


def test_errors_are_measured_in_units_of_the_largest_term() -> None:
    """At sigma = 80 an absolute error of 1e-11 in the signal is rounding; at sigma = 0.5 it is
    none."""
    edm = EDM(0.002, 80.0)
    far = step(signal=1e-11, s=edm.node(80.0), t=edm.node(60.0))
    assert far.exactness == "exact" and far.defect == pytest.approx(1e-11 / 60.0, rel=1e-3)
    with pytest.raises(PlanError, match="no state"):
        step(signal=1e-11, s=edm.node(1.0), t=edm.node(0.5))


def test_noises_add_as_independent_atoms() -> None:
    """A part of sigma drawn afresh: the norm over atoms is what must be sigma, and the same draw
    twice adds up."""
    b = PlanBuilder((S, T))
    x = b.start(S)
    D, e = b.evaluate_kinds(x, S, ("x0", "eps"))
    fresh = 0.6 * T.sigma
    plan = b.finish(b.at(T, T.alpha * D + (0.8 * T.sigma) * e + fresh * b.noise(S, T)))
    assert (plan.exactness, len(plan.draws)) == ("exact", 1)
    for wrong in (0.4, 0.7):
        b = PlanBuilder((S, T))
        D, e = b.evaluate_kinds(b.start(S), S, ("x0", "eps"))
        with pytest.raises(PlanError, match="no state"):
            b.at(T, T.alpha * D + (0.8 * T.sigma) * e + (wrong * T.sigma) * b.noise(S, T))
    b = PlanBuilder((S, T))
    D, e = b.evaluate_kinds(b.start(S), S, ("x0", "eps"))
    z = b.noise(S, T)
    assert (
        b.finish(
            b.at(T, T.alpha * D + (0.8 * T.sigma) * e + (0.3 * T.sigma) * z + (0.3 * T.sigma) * z)
        ).exactness
        == "exact"
    )
    with pytest.raises(PlanError, match="non-finite"):
        b.at(T, math.nan * z)


def test_former_names_work_and_say_so():
    plan = step(allow="asymptotic")
    with pytest.warns(DeprecationWarning, match="exactness"):
        assert plan.consistency == plan.exactness
    with pytest.warns(DeprecationWarning, match="Expression"):
        assert fewstep.plans.Lin is fewstep.plans.Expression
    with pytest.warns(DeprecationWarning, match="run_plan"):
        assert fewstep.plans.run is fewstep.plans.run_plan
    with pytest.raises(AttributeError, match="Lyn"):
        _ = fewstep.plans.Lyn

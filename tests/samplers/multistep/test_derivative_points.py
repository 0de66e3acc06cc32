"""The first derivative of a multistep step from other points than the rest, and scaled."""

from __future__ import annotations

import math

import pytest
import torch

import fewstep
from fewstep.plans import walked_order
from fewstep.plans.weights.phi import phi
from fewstep.samplers import build, get, make_options
from fewstep.samplers.multistep.derivative_points import DerivativePoints
from fewstep.samplers.multistep.weight_rules import Interpolation
from fewstep.schedules import EDM, Flow, Grid, VPLinear

VP = VPLinear()
LAMS = (-2.0, -1.3, -0.4, 0.1, 0.9, 1.6)
NODES = [VP.node_at_lam(lam) for lam in LAMS]


def planned(grid, **options):
    return build("exponential_adams", grid, make_options(get("exponential_adams"), options))


def test_third_order_with_the_last_difference_as_first_derivative():
    """DPM-Solver++ (3M) with D10 in the place of d1 (arXiv 2211.01095, app. D)."""
    s, t, nodes = NODES[2], NODES[3], [NODES[2], NODES[1], NODES[0]]
    h, before, first = 0.5, 0.9, 0.7
    q1 = math.expm1(-h)
    q2 = q1 / h + 1.0
    q3 = q2 / h - 0.5
    r0, r1 = before / h, first / h
    d10, d11 = [1.0 / r0, -1.0 / r0, 0.0], [0.0, 1.0 / r1, -1.0 / r1]
    d2 = [2.0 * (a - b) / (r0 + r1) for a, b in zip(d10, d11, strict=True)]
    wanted = [
        t.alpha * (-q1 * own + q2 * a - q3 * b)
        for own, a, b in zip((1.0, 0.0, 0.0), d10, d2, strict=True)
    ]
    found = DerivativePoints(Interpolation(), 3, points=1).weights(s, t, nodes)
    assert found.values == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("kind", ["x0", "eps"])
def test_more_points_than_nodes_give_the_derivative_of_the_parabola(kind):
    """The step of two nodes whose derivative at s is that of the parabola through three."""
    s, t, nodes = NODES[2], NODES[3], [NODES[2], NODES[1], NODES[0]]
    rule = Interpolation(kind)
    pair, found = (
        rule.weights(s, t, nodes[:2]),
        DerivativePoints(rule, 2, points=2).weights(s, t, nodes),
    )
    moment = pair.values[1] * (nodes[1].lam - s.lam)  # of lam - lam_s
    for power, slope in enumerate((0.0, 1.0, 0.0)):
        values = [(n.lam - s.lam) ** power for n in nodes]
        total = sum(w * v for w, v in zip(found.values, values, strict=True))
        wanted = sum(pair.values) if power == 0 else moment * slope
        assert total == pytest.approx(wanted, rel=1e-12, abs=1e-14)


def test_a_scale_turns_the_exact_step_into_the_midpoint_step():
    h = 0.4
    grid = Grid.from_nodes([VP.node_at_lam(-2.0 + h * k) for k in range(7)], VP)
    for kind, z in (("x0", -h), ("eps", h)):
        scale = (0.5 * phi(1, z) / phi(2, z) - 1.0) / h
        plan = planned(grid, order=2, kind=kind, scale=scale)
        assert plan.close(planned(grid, order=2, kind=kind, correction="midpoint"), 1e-12)
        assert not plan.close(planned(grid, order=2, kind=kind), 1e-3)


@pytest.mark.parametrize("corrector", ["none", "pseudo"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_all_points_and_no_scale_change_nothing(order, corrector):
    for schedule in (VP, Flow(3.0), EDM(0.002, 80.0)):
        own, plain = (
            fewstep.plan(
                "exponential_adams",
                schedule,
                steps=7,
                grid="lam",
                order=order,
                corrector=corrector,
                points=points,
            )
            for points in (order - 1, 0)
        )
        assert own.close(plain, 1e-12)
        assert own.nfe == plain.nfe == 7


def test_decisions_of_every_step_make_one_plan():
    steps = 6
    plan = fewstep.plan(
        "exponential_adams",
        VP,
        steps=steps,
        order=(1, 2, 3, 2, 3, 1),
        kind=("x0", "eps", "x0", "v", "eps", "x0"),
        variable=("lam", "lam", "lam", "angle", "lam", "lam"),
        points=(0, 1, 1, 0, 2, 0),
        scale=(0.0, 0.1, -0.2, 0.0, 0.0, 0.0),
        corrector=("none", "pseudo", "none", "pseudo", "none", "none"),
        lower_order_final=False,
        afs="zero",
    )
    assert plan.nfe == steps - 1
    x = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    den = fewstep.models.GaussianMixture(torch.zeros(1, 2), torch.ones(1), torch.ones(1), VP)
    calls = []
    fewstep.run(plan, den, x, on_step=lambda step: calls.append(step.index))
    assert len(calls) == steps - 1


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ({"order": 3, "points": 1}, 2.0),
        ({"order": 3, "points": 2}, 3.0),
        ({"order": 2, "points": 3}, 2.0),
        ({"order": 3, "points": 1, "corrector": "pseudo"}, 3.0),
        ({"order": 1, "points": 2, "corrector": "pseudo"}, 2.0),
        ({"order": 2, "scale": 0.2}, 2.0),
    ],
)
def test_walked_orders(options, order):
    entry = get("exponential_adams")
    assert entry.order_of(make_options(entry, options)) == order

    def plan_of(n):
        nodes = [VP.node_at_lam(-2.5 + 4.5 * (k / n) ** 1.2) for k in range(n + 1)]
        return planned(Grid.from_nodes(nodes, VP), lower_order_final=False, **options)

    assert abs(walked_order(plan_of) - order) < 0.15

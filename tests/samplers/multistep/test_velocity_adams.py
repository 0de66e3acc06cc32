"""v as history: its weights against 40-digit quadrature, straight lines, both ends of a path, and
exponential Adams on it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from mpmath import mp, mpf
from test_weights import VP, exact_lam, flow_t, ve, vp, vp_linear_t

import fewstep
from fewstep.eval.certificates.certification import certify, trajectory_error
from fewstep.eval.certificates.problem import smooth_grid
from fewstep.models import GaussianMixture
from fewstep.plans import walked_order
from fewstep.plans.weights.exponential import weights
from fewstep.plans.weights.node_distances import angle_gap
from fewstep.samplers import SamplerError, build, get, make_options
from fewstep.schedules import EDM, VE, DiscreteVP, Flow, Grid, SubVP, Trig, VPCosine, VPLinear
from fewstep.schedules.node import Node

mp.dps = 40
VARIABLES = ("lam", "rho", "t", "angle")
BETAS = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]
SCHEDULES = [
    VPLinear(),
    VPCosine(),
    SubVP(),
    DiscreteVP.from_betas(BETAS),
    VE(0.01, 50.0),
    EDM(0.002, 80.0),
    Flow(3.0),
    Trig(),
]


@pytest.fixture(autouse=True)
def forty_digits():
    """Other test modules set their own precision."""
    with mp.workdps(40):
        yield


def flow(t: float) -> Node:
    return Node(1.0 - t, t, t, -1.0, 1.0)


def timed(lam: float) -> Node:
    return VP.node_at_lam(lam)


def angle(n: Node) -> mpf:
    return mp.atan2(mpf(n.sigma), mpf(n.alpha))


def oracle(s, t, nodes, variable, t_of_lam=None):
    """``(carry, values)`` from the definition: the polynomial through u - turned, integrated in 40
    digits over the angle."""
    at = {
        "lam": exact_lam,
        "rho": lambda n: mpf(n.sigma) / mpf(n.alpha),
        "t": lambda n: mpf(n.t),
        "angle": angle,
    }[variable]
    of = {
        "lam": lambda f: -mp.log(mp.tan(f)),
        "rho": mp.tan,
        "angle": lambda f: f,
        "t": lambda f: t_of_lam(-mp.log(mp.tan(f))),
    }[variable]
    xs = [at(n) for n in nodes]
    first, last = angle(s), angle(t)
    cuts = mp.linspace(first, last, 5)
    r_s, r_t = (mp.hypot(mpf(n.alpha), mpf(n.sigma)) for n in (s, t))
    carry, values = mp.cos(last - first), [mpf(0)] * len(nodes)
    values[nodes.index(s)] = mp.sin(last - first)
    for j, n in enumerate(nodes):
        if n == s:
            continue
        share = mp.quad(
            lambda f, j=j: mp.fprod((of(f) - x) / (xs[j] - x) for i, x in enumerate(xs) if i != j),
            cuts,
        )
        d = angle(n) - first
        values[j] += share
        values[nodes.index(s)] -= share * mp.cos(d)
        carry += share * mp.sin(d)
    radii = [mp.hypot(mpf(n.alpha), mpf(n.sigma)) for n in nodes]
    return carry * r_t / r_s, [b * r_t / r for b, r in zip(values, radii, strict=True)]


STEPS = [
    ("vp", [vp(-1.0), vp(-1.7), vp(-2.1), vp(-3.0)], vp(-0.4), ("lam", "rho", "angle")),
    ("long", [vp(-4.9), vp(-5.1)], vp(4.0), ("lam", "rho", "angle")),
    ("short", [vp(1.0), vp(1.0 - 1e-5), vp(1.0 - 3e-5)], vp(1.0 + 2e-5), ("lam", "rho", "angle")),
    ("ve", [ve(-3.0), ve(-3.6), ve(-4.3)], ve(-2.6), ("lam", "rho", "angle")),
    ("corrector", [vp(0.5), vp(-0.1), vp(-0.6)], vp(0.5), ("lam", "rho", "angle")),
    ("vp in t", [timed(-1.0), timed(-1.7), timed(-2.1)], timed(-0.4), ("t",)),
    ("flow in t", [flow(0.6), flow(0.75), flow(0.9)], flow(0.45), ("t",)),
    ("from alpha = 0", [flow(1.0), flow(0.7)], flow(0.7), ("t", "angle")),
    ("to sigma = 0", [flow(0.3), flow(0.5), flow(0.8)], flow(0.0), ("rho", "t", "angle")),
]


@pytest.mark.parametrize(
    ("nodes", "t", "variable"),
    [pytest.param(n, t, v, id=f"{i}-{v}") for i, n, t, vs in STEPS for v in vs],
)
def test_weights_against_quadrature(nodes, t, variable):
    s = nodes[1] if nodes[0] == t else nodes[0]
    if nodes[0].alpha == 0.0:
        s = nodes[0]
    of = (
        {}
        if nodes[0].t is None
        else {
            "t_of_lam": VP.t_of_lam if nodes[0].alpha + nodes[0].sigma > 1.01 else Flow().t_of_lam
        }
    )
    exact = (vp_linear_t if nodes[0].alpha + nodes[0].sigma > 1.01 else flow_t) if of else None
    if variable == "t" and exact is flow_t:
        exact = lambda lam: mpf(0) if lam == mp.inf else mpf(1) if lam == -mp.inf else flow_t(lam)  # noqa: E731
    w = weights(s, t, nodes, "v", variable=variable, **of)
    carry, values = oracle(s, t, nodes, variable, exact)
    scale = max(abs(v) for v in values)
    # nodes that are close have distances of few digits
    tolerance = 3e-10 if abs(angle_gap(s, t)) < 1e-4 else 3e-13
    assert float(abs(mpf(w.carry) - carry)) <= tolerance * max(1.0, float(scale))
    assert all(
        float(abs(mpf(a) - b) / scale) <= tolerance for a, b in zip(w.values, values, strict=True)
    )
    assert w.noise == 0.0


def test_angles_keep_their_digits():
    for a, b in (
        (vp(3.0), vp(3.0 + 1e-9)),
        (ve(-4.0), ve(-4.0 + 1e-9)),
        (flow(1.0), flow(0.0)),
        (vp(2.0), vp(-2.0)),
    ):
        want = angle(b) - angle(a)
        assert float(abs(mpf(angle_gap(a, b)) - want) / abs(want)) <= 4e-16


@pytest.mark.parametrize("variable", VARIABLES)
def test_one_node_is_ddim_and_lines_are_exact(variable):
    """``alpha x0 + sigma eps`` is carried over to rounding, for any history, and consistency is
    exact on every path."""
    for schedule in SCHEDULES:
        for steps in (1, 2, 6):
            plan = fewstep.plan(
                "exponential_adams",
                schedule,
                steps=steps,
                grid="lam",
                order=1,
                kind="v",
                variable=variable,
            )
            assert plan.exactness == "exact" and plan.nfe == steps
            ddim = fewstep.plan("ddim", schedule, steps=steps, grid="lam")
            model = GaussianMixture(
                [[0.7, -0.3], [-0.5, 0.2]], [0.5, 0.1], [0.6, 0.4], schedule, "v"
            )
            x = schedule.prior_scale * torch.tensor([[0.3, -1.1], [0.9, 0.4]], dtype=torch.float64)
            assert torch.allclose(
                fewstep.run(plan, model, x), fewstep.run(ddim, model, x), rtol=0.0, atol=1e-12
            )
            plan = fewstep.plan(
                "exponential_adams",
                schedule,
                steps=steps,
                order=4,
                kind="v",
                variable=variable,
                lower_order_final=False,
            )
            assert plan.exactness == "exact" and plan.defect < 1e-12


def test_straight_lines_by_hand():
    for nodes, t, variable in ((n, t, v) for _, n, t, vs in STEPS[:5] for v in vs):
        s = nodes[1] if nodes[0] == t else nodes[0]
        w = weights(s, t, nodes, "v", variable=variable)
        x0, eps = 0.7, -1.9
        size = sum(abs(v) for v in w.values) + abs(w.carry)
        moved = w.carry * (s.alpha * x0 + s.sigma * eps)
        moved += sum(
            b * (n.alpha * eps - n.sigma * x0) for b, n in zip(w.values, nodes, strict=True)
        )
        assert abs(moved - t.alpha * x0 - t.sigma * eps) <= 1e-14 * size * max(
            1.0, *(n.sigma for n in nodes)
        )


def test_both_ends_are_finite():
    """From alpha = 0 without a prologue, in the variables that are finite there, and to sigma = 0
    with as many nodes as there are."""
    one = weights(flow(1.0), flow(0.0), [flow(1.0)], "v")
    assert one.carry == 0.0 and one.values == (-1.0,)  # x = -v, the mean of x0
    for variable in ("t", "angle"):
        w = weights(
            flow(0.7),
            flow(0.4),
            [flow(0.7), flow(1.0)],
            "v",
            variable=variable,
            t_of_lam=Flow().t_of_lam,
        )
        assert all(math.isfinite(v) and v != 0.0 for v in (w.carry, *w.values))
    for variable in ("lam", "rho"):
        assert (
            weights(flow(0.7), flow(0.4), [flow(0.7), flow(1.0)], "v", variable=variable).values[1]
            == 0.0
        )
    assert (
        weights(flow(0.3), flow(0.0), [flow(0.3), flow(0.6)], "v", variable="lam").values[1] == 0.0
    )
    assert (
        weights(flow(0.3), flow(0.0), [flow(0.3), flow(0.6)], "v", variable="angle").values[1]
        != 0.0
    )
    for schedule, variable in itertools.product(SCHEDULES, VARIABLES):
        model = GaussianMixture([[0.7, -0.3], [-0.5, 0.2]], [0.5, 0.1], [0.6, 0.4], schedule, "v")
        for steps in (1, 2, 3):
            options = {"kind": "v", "variable": variable, "lower_order_final": False}
            out, info = fewstep.sample(
                model,
                "exponential_adams",
                steps=steps,
                n=2,
                info=True,
                dtype=torch.float64,
                **options,
            )
            assert bool(torch.isfinite(out).all()) and info.nfe == steps


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_walked_orders(order):
    for variable in VARIABLES:
        options = make_options(
            get("exponential_adams"),
            {"order": order, "kind": "v", "variable": variable, "lower_order_final": False},
        )
        walked = walked_order(
            lambda n, o=options: build("exponential_adams", smooth_grid(VPLinear(), n), o)
        )
        assert abs(walked - order) <= (0.15 if order <= 3 else 0.25), variable


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_certificates(order):
    for variable in VARIABLES:
        assert certify("exponential_adams", order=order, kind="v", variable=variable).passed
    if order < 3:
        for corrector in ("pseudo", "implicit"):
            assert certify(
                "exponential_adams", order=order, kind="v", variable="angle", corrector=corrector
            ).passed


def test_measured_order_on_other_paths():
    for schedule in (EDM(0.002, 80.0), Flow(3.0)):
        plans = [
            build(
                "exponential_adams",
                smooth_grid(schedule, n),
                make_options(get("exponential_adams"), {"kind": "v", "variable": "angle"}),
            )
            for n in (160, 320)
        ]
        errors = [trajectory_error(plan, schedule, 5) for plan in plans]
        # lower-order end: the last step but one is of order 2
        assert math.log2(errors[0] / errors[1]) > 1.8


def test_choices_a_step():
    """Kinds and variables that change from step to step; v beside x0 and eps out of one network
    call."""
    kinds, variables = ("x0", "v", "eps", "v", "x0"), ("lam", "angle", "rho", "t", "lam")
    for schedule in (VPLinear(), Flow(3.0)):
        grid = fewstep.grid("lam", schedule, 5)
        plan = fewstep.plan(
            "exponential_adams",
            schedule,
            grid=grid,
            order=(1, 2, 3, 3, 3),
            kind=kinds,
            variable=variables,
        )
        assert plan.nfe == 5 and plan.exactness == "exact"
        assert max(len(e.outs) for e in plan.evaluations) == 3
    all_v = fewstep.plan("exponential_adams", VP, steps=5, kind=("v",) * 5, variable=("angle",) * 5)
    assert all_v == fewstep.plan("exponential_adams", VP, steps=5, kind="v", variable="angle")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variable": "angle"}, "variable='angle': kind must be 'v', got kind='x0'"),
        ({"kind": "eps", "variable": "angle"}, "got kind='eps'"),
        ({"kind": "v", "order": 2, "correction": "midpoint"}, "correction='midpoint'"),
        ({"kind": "v_prediction"}, "did you mean|allowed"),
        ({"kind": "v", "variable": "angel"}, "did you mean 'angle'"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(SamplerError, match=message):
        fewstep.plan("exponential_adams", VP, steps=3, **options)


def test_what_weights_refuse():
    a, b, c = vp(0.0), vp(0.5), vp(1.0)
    for message, nodes, given in (
        ("not among the nodes", [a], {}),
        ("adds no noise", [b], {"tau": 1.0}),
        ("needs t_of_lam", [timed(0.5), timed(0.0)], {"variable": "t"}),
        ("replaces the second moment", [b, a], {"moment": "half"}),
    ):
        s = nodes[0] if nodes[0].t is not None else b
        with pytest.raises(ValueError, match=message):
            weights(s, timed(1.0) if s.t is not None else c, nodes, "v", **given)
    with pytest.raises(ValueError, match="goes with kind 'v'"):
        weights(b, c, [b, a], "x0", variable="angle")
    assert Grid.from_nodes([a, b], VP).steps == 1

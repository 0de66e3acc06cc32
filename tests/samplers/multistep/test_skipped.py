"""Step skipping: against solvers on fewer nodes, against formulas, and what it refuses."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError
from fewstep.eval.solver.counting import Counting
from fewstep.models import GaussianMixture
from fewstep.plans import PlanError
from fewstep.plans.transforms.skipped_calls import skip_calls
from fewstep.samplers import SamplerError
from fewstep.schedules import EDM, Flow, VPLinear, grid

LAW = ([[1.0, -0.5], [-0.8, 0.6]], [0.3, 0.4], [0.6, 0.4])
PATHS = [VPLinear(), EDM(0.002, 80.0), Flow(3.0)]
TIMES = [0.9, 0.7, 0.5, 0.35, 0.2, 0.1, 0.04]


def model(path: Any, prediction: str = "v") -> GaussianMixture:
    return GaussianMixture(*LAW, path, prediction)


def start(path: Any) -> torch.Tensor:
    z = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return float(path.prior_scale) * z


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", [None, "x0", "eps"])
@pytest.mark.parametrize("every", [2, 3])
def test_reuse_under_ddim_is_ddim_on_the_nodes_of_the_calls(path, kind, every):
    fine = grid("lam", path, 6)
    plan = fewstep.plan("skipped", path, grid=fine, every=every, kind=kind)
    coarse = fewstep.plan("ddim", path, times=fine.times[::every])
    assert plan.nfe == coarse.nfe == 6 // every and plan.steps == 6
    a, b = (fewstep.run(p, model(path), start(path)) for p in (plan, coarse))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_reuse_of_a_velocity_under_euler_is_euler_on_the_nodes_of_the_calls():
    fine = grid("uniform", Flow(), 8)
    plan = fewstep.plan(
        "skipped", Flow(), grid=fine, method="flow_adams", kind="velocity", arguments={"order": 1}
    )
    coarse = fewstep.plan("flow_adams", Flow(), times=fine.times[::2], order=1)
    a, b = (fewstep.run(p, model(Flow()), start(Flow())) for p in (plan, coarse))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variable", ["lam", "t", "call"])
def test_linear_extrapolation_is_the_formula(variable):
    """DDIM by hand, where every second x0 lies on the line through the last two made."""
    path, den = VPLinear(), model(VPLinear(), "x0")
    nodes = [path.node(t) for t in TIMES]
    plan = fewstep.plan("skipped", path, times=TIMES, points=2, variable=variable)
    x = start(path)
    past: list[tuple[float, torch.Tensor]] = []
    for i, (s, t) in enumerate(pairwise(nodes)):
        u = {"lam": s.lam, "t": s.t, "call": float(i)}[variable]
        if i % 2 == 0:
            D = den(x, s.t)
            past = [*past, (u, D)][-2:]
        elif len(past) == 1:
            D = past[0][1]
        else:
            (u0, a), (u1, b) = past
            D = a + (u - u0) / (u1 - u0) * (b - a)
        e = t.sigma / s.sigma
        x = e * x + (t.alpha - e * s.alpha) * D
    found = fewstep.run(plan, den, start(path))
    torch.testing.assert_close(found, x, rtol=1e-12, atol=1e-12)


def test_kept_eps_under_a_step_of_x0_is_the_formula():
    """2M reads x0; the eps kept gives it at the state where the call is skipped."""
    path, den = VPLinear(), model(VPLinear(), "eps")
    nodes = [path.node(t) for t in TIMES[:4]]
    plan = fewstep.plan(
        "skipped",
        path,
        times=TIMES[:4],
        method="dpmpp_2m",
        kind="eps",
        skip=(1,),
        arguments={"lower_order_final": False},
    )
    x, past, eps = start(path), [], torch.zeros(())
    for i, (s, t) in enumerate(pairwise(nodes)):
        eps = eps if i == 1 else den(x, s.t)
        past.append((x - s.sigma * eps) / s.alpha)
        h = t.lam - s.lam
        D = past[-1]
        if i:
            r = (s.lam - nodes[i - 1].lam) / h
            D = D + (past[-1] - past[-2]) / (2.0 * r)
        x = t.sigma / s.sigma * x - t.alpha * math.expm1(-h) * D
    assert plan.nfe == 2
    torch.testing.assert_close(fewstep.run(plan, den, start(path)), x, rtol=1e-12, atol=1e-12)


def test_reuse_reduces_a_second_order_method_and_extrapolation_keeps_it():
    """Errors at 40 and 80 calls."""
    path = VPLinear()
    exact = fewstep.run(
        fewstep.plan("dpmpp_3m", path, grid=grid("lam", path, 2000, final="sigma_min")),
        model(path), start(path),
    )  # fmt: skip

    def slope(**options: Any) -> float:
        errors = []
        for steps in (80, 160):
            fine = grid("lam", path, steps, final="sigma_min")
            plan = fewstep.plan("skipped", path, grid=fine, method="dpmpp_2m", **options)
            assert plan.nfe == steps // 2
            out = fewstep.run(plan, model(path), start(path))
            errors.append(float((out - exact).square().mean().sqrt()))
        return math.log2(errors[0] / errors[1])

    assert 0.8 < slope() < 1.2
    assert 1.8 < slope(points=2) < 2.3


@pytest.mark.parametrize("method", ["ddim", "heun", "dpmpp_2m", "unipc"])
@pytest.mark.parametrize("nfe", [1, 2, 3, 8])
def test_a_budget_counts_the_calls_made(method, nfe):
    den = Counting(model(VPLinear()))
    _, info = fewstep.sample(den, "skipped", method=method, nfe=nfe, n=2, info=True)
    assert info.nfe == den.calls <= nfe and info.plan.steps >= info.nfe
    if method != "heun":
        assert info.nfe == nfe and info.plan.steps == 2 * nfe


def test_given_calls_are_skipped():
    plan = fewstep.plan("skipped", VPLinear(), steps=5, skip=(3, 1, 3))
    assert [e.node for e in plan.evaluations] == [plan.nodes[k] for k in (0, 2, 4)]
    assert fewstep.plan("skipped", VPLinear(), nfe=4, skip=(2, 3)).steps == 6
    whole = fewstep.plan("skipped", VPLinear(), steps=5, every=1)
    assert whole.close(fewstep.plan("ddim", VPLinear(), steps=5))


@pytest.mark.parametrize("kind", ["x0", "v"])
def test_noise_stays_right_where_x0_is_kept(kind):
    plan = fewstep.plan("skipped", VPLinear(), steps=6, method="ddpm", kind=kind)
    assert plan.stochastic and (plan.exactness == "exact") == (kind == "x0")
    assert plan.nfe == 3 and len(plan.draws) == len(fewstep.plan("ddpm", VPLinear(), steps=6).draws)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "ode45"}, "method='ode45': must be a sampler of form plan"),
        ({"method": "skipped"}, "method='skipped'"),
        ({"method": "ddimm"}, "ddim"),
        ({"arguments": {"order": 3}}, "order"),
        ({"every": 0}, "every=0"),
        ({"points": 9}, "points=9"),
        ({"kind": "epsilon"}, "eps"),
        ({"variable": "rho"}, "variable"),
        ({"skip": (0,)}, "skip"),
        ({"skip": (9,)}, "call 9 cannot be skipped: the plan has 4 calls"),
    ],
)  # fmt: skip
def test_it_refuses(options, words):
    with pytest.raises(ArgumentError, match=words):
        fewstep.plan("skipped", VPLinear(), steps=4, **options)


def test_a_budget_that_the_indices_do_not_fit():
    with pytest.raises(SamplerError, match="skip=.*nfe=2 the plan has 4 calls"):
        fewstep.plan("skipped", VPLinear(), nfe=2, skip=(2, 5))


def test_the_transform_refuses_the_first_call():
    plan = fewstep.plan("ddim", VPLinear(), steps=3)
    assert skip_calls(plan, ()).close(plan)
    with pytest.raises(PlanError, match="call 0 cannot be skipped"):
        skip_calls(plan, (0, 1))


def test_a_start_that_reads_another_kind():
    """From alpha = 0 the first call reads x0, Heun's own read eps."""
    plan = fewstep.plan("skipped", Flow(), steps=3, method="heun")
    kinds = [kind for e in plan.evaluations for _, kind, _ in e.outs]
    assert kinds == ["x0", "eps"] and plan.exactness == "exact"
    out = fewstep.run(plan, model(Flow()), start(Flow()))
    assert bool(torch.isfinite(out).all())

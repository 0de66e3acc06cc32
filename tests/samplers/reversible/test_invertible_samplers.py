"""EDICT, BDIA and O-BELM by the recurrences of their authors' code, and FireFlow by its own; runs
that are undone to rounding, and the growth of rounding when they are."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import fewstep
from fewstep.models import GaussianMixture
from fewstep.plans import Cursor, Plan, PlanBuilder, PlanError, Program, lower
from fewstep.plans.transforms.undone import Reversal, UndoError, held, undone
from fewstep.samplers import get, names
from fewstep.schedules import EDM, Flow, Node, VPLinear
from fewstep.schedules.grids.construction import Grid

F64 = torch.float64
LAMS = (-2.0, -1.3, -0.6, 0.1, 0.8, 1.6)
REVERSIBLE = [name for name in names() if get(name).reversible]


def mixture(schedule, prediction: str = "eps") -> GaussianMixture:
    means = torch.tensor([[-1.3], [0.4], [1.7]], dtype=F64)
    return GaussianMixture(means, [0.3, 0.2, 0.4], [0.3, 0.5, 0.2], schedule, prediction)


def nodes_at(lams) -> list[Node]:
    return [VPLinear().node_at_lam(lam) for lam in lams]


def start(node: Node) -> Tensor:
    return node.sigma * torch.tensor([[-2.0], [0.3], [2.3]], dtype=F64)


def found(name: str, **options: Any) -> Tensor:
    """The sampler on the nodes of the golden values."""
    nodes = nodes_at(LAMS)
    grid = Grid.from_nodes(nodes, VPLinear())
    plan = fewstep.plan(name, VPLinear(), grid=grid, **options)
    return fewstep.run(plan, mixture(VPLinear()), start(nodes[0]))


GOLDEN = {
    "belm": ({}, (-1.723302796648, 0.464682527072, 2.270105043277)),
    "bdia": ({"gamma": 0.5}, (-1.712935648930, 0.457569111512, 2.265288202546)),
    "edict": ({"alternate": False}, (-1.378267181225, 0.568126597049, 2.129445741208)),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values(name: str) -> None:
    options, wanted = GOLDEN[name]
    assert found(name, **options)[:, 0].tolist() == pytest.approx(wanted, abs=1e-11)


def ddim(x: Tensor, e: Tensor, s: Node, t: Node) -> Tensor:
    return t.alpha / s.alpha * x + (t.sigma - s.sigma * t.alpha / s.alpha) * e


@pytest.mark.parametrize("alternate", [True, False])
def test_edict_is_the_loop_of_its_authors(alternate: bool) -> None:
    """salesforce/EDICT: latents 0 and 1 in turn, the order changing from step to step, then the
    mixing layer."""
    net, nodes, p = mixture(VPLinear()), nodes_at(LAMS), 0.93
    pair = [start(nodes[0]), start(nodes[0])]
    for i, (s, t) in enumerate(pairwise(nodes)):
        for j in range(2):
            own = (j + (i % 2 if alternate else 0)) % 2
            pair[own] = ddim(pair[own], net(pair[1 - own], s.t), s, t)
        pair[0] = p * pair[0] + (1.0 - p) * pair[1]
        pair[1] = (1.0 - p) * pair[0] + p * pair[1]
    torch.testing.assert_close(
        found("edict", mix_weight=p, leapfrog_steps=alternate), pair[0], rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_bdia_is_the_loop_of_belm_s_repository(gamma: float) -> None:
    """zituitui/BELM, samplers/BDIA.py."""
    net, nodes = mixture(VPLinear()), nodes_at(LAMS)
    xs = [start(nodes[0])]
    for i, (s, t) in enumerate(pairwise(nodes)):
        e = net(xs[-1], s.t)
        x = ddim(xs[-1], e, s, t)
        if i:
            x = x + gamma * (xs[-2] - ddim(xs[-1], e, s, nodes[i - 1]))
        xs.append(x)
    torch.testing.assert_close(found("bdia", gamma=gamma), xs[-1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("whole", [True, False])
def test_reversible_heun_is_the_published_recurrence(whole: bool) -> None:
    """``y' = 2 z - y + h e``, ``z' = z + h (e + e') / 2`` in z = x / alpha and rho, with e = eps(y);
    one call a step and one at the end, where that is not sigma = 0."""
    net, path = mixture(VPLinear()), VPLinear()
    nodes = nodes_at(LAMS) if whole else [*nodes_at(LAMS), path.node(0.0)]
    y = z = start(nodes[0]) / nodes[0].alpha
    e = net(nodes[0].alpha * y, nodes[0].t)
    for s, t in pairwise(nodes):
        h = t.rho - s.rho
        if t.sigma == 0.0:
            z = z + h * e
            break
        y = 2.0 * z - y + h * e
        after = net(t.alpha * y, t.t)
        z, e = z + 0.5 * h * (e + after), after
    plan = fewstep.plan("reversible_heun", path, grid=Grid.from_nodes(nodes, path))
    run = fewstep.run(plan, net, start(nodes[0]))
    torch.testing.assert_close(run, nodes[-1].alpha * z, rtol=1e-12, atol=1e-12)
    assert plan.nfe == len(LAMS)


def test_reversible_heun_damps_what_bdia_leaves() -> None:
    """Gaussian data from sigma 80 to 0.01: second order, and a third of the error of BDIA."""
    den = GaussianMixture([[0.4]], 0.6, [1.0], EDM(0.01, 80.0))
    x = torch.tensor([[56.0]], dtype=F64)
    exact = 0.4 + float(x - 0.4) * math.hypot(0.6, 0.01) / math.hypot(0.6, 80.0)
    for steps, wanted in ((50, 1.685e-3), (100, 4.211e-4), (200, 1.0526e-4)):
        error = {}
        for name in ("reversible_heun", "bdia", "belm"):
            plan = fewstep.plan(name, den.schedule, steps=steps, grid="lam", final="sigma_min")
            error[name] = abs(float(fewstep.run(plan, den, x)) - exact)
        assert error["reversible_heun"] == pytest.approx(wanted, rel=0.05)
        assert error["bdia"] == pytest.approx(3.0 * error["reversible_heun"], rel=0.02)
        assert error["belm"] == pytest.approx(error["reversible_heun"], rel=0.02)


def test_fireflow_is_the_loop_of_its_authors() -> None:
    """HolmesShuan/FireFlow, denoise_fireflow; denoise_rf_solver of both repositories is the
    midpoint rule."""
    net, times = mixture(Flow(), "velocity"), [1.0, 0.8, 0.45, 0.2, 0.0]
    x0 = torch.tensor([[-2.0], [0.3], [2.3]], dtype=F64)
    x, v = x0, None
    y = x0
    for t, s in pairwise(times):
        h = s - t
        v = net(x, t) if v is None else v
        v = net(x + 0.5 * h * v, t + 0.5 * h)
        x = x + h * v
        first = net(y, t)
        slope = (net(y + 0.5 * h * first, t + 0.5 * h) - first) / (0.5 * h)
        y = y + h * first + 0.5 * h * h * slope
    for name, wanted in (("fireflow", x), ("rf_solver", y)):
        plan = fewstep.plan(name, Flow(), times=times)
        torch.testing.assert_close(fewstep.run(plan, net, x0), wanted, rtol=1e-12, atol=1e-12)
    assert fewstep.plan("fireflow", Flow(), steps=7).nfe == 8
    assert fewstep.plan("rf_solver", Flow(), steps=7).nfe == 14


def error_of(name: str, steps: int, **options: Any) -> float:
    """Relative error on a Gaussian from sigma 80 to 0.01 with an exact second state."""
    path, std = EDM(0.01, 80.0), 0.5
    den = GaussianMixture([[0.0]], std, [1.0], path)
    ratio = 80.0 / 0.01
    sigmas = [80.0 * ratio ** (-i / steps) for i in range(steps + 1)]
    plan = fewstep.plan(name, path, sigmas=sigmas, **options)
    exact = [math.hypot(std, sigma) for sigma in sigmas]
    cursor = Cursor(plan, den, torch.tensor([[exact[0]]], dtype=F64))
    while not cursor.done:
        if cursor.node == plan.nodes[1] and name != "edict":
            cursor.replace(torch.tensor([[exact[1]]], dtype=F64))
        cursor.step(den.raws(cursor.x_in, cursor.node.t, None))
    return abs(float(cursor.result) - exact[-1]) / exact[-1]


def test_measured_errors_are_those_of_the_reference_notes() -> None:
    for name in ("belm", "bdia"):
        for steps, wanted in ((50, 3.5e-3), (100, 8.8e-4), (200, 2.2e-4)):
            assert error_of(name, steps) < 3.0 * wanted, (name, steps)
    errors = [error_of("edict", steps, alternate=False) for steps in (100, 200, 400)]
    assert errors[0] > 1.7 * errors[1] > 2.9 * errors[2]


def ends_of(program: Program, den: GaussianMixture, x: Tensor, at: int) -> Any:
    """The buffers before call ``at``, and the result with its partners."""
    cursor, kept = Cursor(program, den, x), {}
    while (call := cursor.call) is not None:
        if call.number == at:
            kept = {slot: cursor.state.slot(slot).clone() for slot in held(program, at)}
        cursor.step(den.raws(cursor.x_in, call.node.t, None))
    return kept, [cursor.result, *cursor.kept]


def miss(name: str, schedule, prediction: str, steps: int, **options: Any) -> float:
    """Relative difference of the buffers at the second call after the run was undone."""
    den = mixture(schedule, prediction)
    grid = "uniform" if isinstance(schedule, Flow) else "lam"
    plan = fewstep.plan(name, schedule, steps=steps, grid=grid, final="sigma_min", **options)
    program = lower(plan, den, plan.partners)
    how = undone(program)
    generator = torch.Generator().manual_seed(0)
    x = schedule.prior_scale * torch.randn(4, 1, dtype=F64, generator=generator)
    wanted, ends = ends_of(program, den, x, 1)
    back = Reversal(how, ends, None, stop=1)
    calls = 0
    while not back.done:
        back.step(den.raws(back.x_in, program.calls[back.due].node.t, None))
        calls += 1
    assert calls == plan.nfe - 1 and set(back.buffers) == set(wanted)
    pairs = [(back.buffers[slot], value) for slot, value in wanted.items()]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("name", REVERSIBLE)
def test_a_run_is_undone_to_rounding(name: str, prediction: str) -> None:
    """50 steps on every path, with the conversions of every kind of network, from alpha = 0 too."""
    for schedule in (VPLinear(), EDM(0.01, 80.0), Flow()):
        if prediction == "eps" and isinstance(schedule, Flow):
            continue  # says nothing at alpha = 0
        assert miss(name, schedule, prediction, 50) < 1e-10, schedule


def test_rounding_grows_as_the_documents_say() -> None:
    path = EDM(0.01, 80.0)
    assert miss("edict", path, "eps", 100) < 1e-10
    assert 1e-10 < miss("edict", path, "eps", 200) < 1e-4
    assert miss("edict", path, "eps", 400) > 1.0
    assert 1e-7 < miss("bdia", path, "eps", 50, gamma=0.5) < 1e-4
    assert miss("bdia", path, "eps", 400) < 1e-10
    assert miss("belm", path, "eps", 400) < 1e-9


@pytest.mark.parametrize("name", names("plan"))
def test_the_registry_says_which_samplers_can_be_undone(name: str) -> None:
    entry = get(name)
    schedule = Flow() if entry.on[0] == "flow" else VPLinear()
    plan = fewstep.plan(name, schedule, steps=4, grid="lam", final="sigma_min")
    assert bool(plan.partners) == entry.reversible
    if "uncond" in plan.channels:
        return
    program = lower(plan, mixture(schedule, "v"), plan.partners)
    if entry.reversible:
        assert undone(program).first <= 1
    else:
        with pytest.raises(UndoError, match="do not follow from those after it"):
            undone(program)


@pytest.mark.parametrize("name", REVERSIBLE)
def test_partners_survive(name: str) -> None:
    """JSON, the analytic first step, and the comparison of plans."""
    schedule = Flow() if get(name).on[0] == "flow" else VPLinear()
    plan = fewstep.plan(name, schedule, steps=4)
    assert len(plan.partners) == 1
    assert Plan.from_json(plan.to_json()) == plan
    bare = dataclasses.replace(plan, partners=())
    assert bare != plan and not bare.close(plan)
    assert Plan.from_json(bare.to_json()) == bare
    assert len(fewstep.plan(name, schedule, steps=4, afs=True).partners) == 1


def test_wrong_partners_are_refused() -> None:
    plan = fewstep.plan("belm", VPLinear(), steps=3)
    for partners in ((plan.result,), (10_000,), (1,)):
        text = dataclasses.replace(plan, partners=partners).to_json()
        with pytest.raises(PlanError, match="must be other states"):
            Plan.from_json(text)
    b = PlanBuilder(plan.nodes)
    x = b.start(plan.start)
    with pytest.raises(PlanError, match="finish"):
        b.finish(x, [b.evaluate(x, plan.start, "eps")])

"""The stage ``space`` of ``fewstep.tune``: an evolutionary search over decisions of every step."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError, FewstepError
from fewstep.engine.tuning import solver_space
from fewstep.engine.tuning.decisions import DATA, NOISE, Decision, Solver, known
from fewstep.engine.tuning.table import table_of
from fewstep.engine.tuning.variation import Variation
from fewstep.models import GaussianMixture, wrap
from fewstep.schedules import EDM, DiscreteVP, Flow, VPLinear

F64 = torch.float64
QUICK = {"trajectories": 32, "fine_steps": 64, "test": 128}
NAMES = (
    ("ddim", {}),
    ("dpmpp_2m", {}),
    ("res_2m", {}),
    ("dpmpp_3m", {}),
    ("dpm_solver_2m", {}),
    ("dpm_solver_3m", {}),
    ("unipc", {"order": 2}),
    ("unipc", {"order": 3}),
    ("deis", {"order": 2}),
    ("deis", {"order": 3}),
    ("lms", {"order": 3}),
)


def mixture():
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.3]], dtype=F64)
    weights, stds = torch.tensor([0.4, 0.6], dtype=F64), torch.tensor([0.2, 0.4], dtype=F64)
    return GaussianMixture(means, stds, weights, VPLinear())


@pytest.mark.parametrize(
    "schedule", [VPLinear(), Flow(2.0), EDM(0.002, 80.0)], ids=["vp", "flow", "edm"]
)
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_known_solvers_are_points_of_the_space(schedule, steps):
    grid = fewstep.grid("lam", schedule, steps)
    solvers = known(grid.times)
    assert len(solvers) > len(NAMES)
    for (name, options), solver in zip(NAMES, solvers, strict=False):
        plan = solver.plan(schedule)
        assert plan.close(fewstep.plan(name, schedule, grid=grid, **options), 1e-12)
        assert plan.nfe == solver.nfe == steps


@pytest.mark.parametrize("schedule", [VPLinear(), Flow(2.0)], ids=["vp", "flow"])
def test_children_make_as_many_calls_and_are_states(schedule):
    variation = Variation(schedule, Random(0), True)
    parents, ran, kinds = known(fewstep.grid("lam", schedule, 5).times), 0, set()
    for _ in range(150):
        child = variation.child(parents)
        assert child.nfe == 5
        try:
            plan = child.plan(schedule)
        except FewstepError:  # times that cross
            continue
        ran += 1
        assert plan.nfe == 5
        assert plan.exactness == "asymptotic" if child.afs else plan.exactness == "exact"
        kinds |= {d.form.kind for d in child.steps}
        parents = [*parents[-20:], child]
    assert ran > 100
    assert kinds == {"x0", "eps", "v"}


def test_children_follow_from_the_seed_and_keep_times_if_asked():
    parents = known(fewstep.grid("lam", VPLinear(), 4).times)
    first, second = (
        [Variation(VPLinear(), random, False).child(parents) for _ in range(20)]
        for random in (Random(3), Random(3))
    )
    assert first == second
    assert {child.times for child in first} == {parents[0].times}
    assert not any(child.afs for child in first)


def test_what_has_no_effect_is_settled():
    assert Decision(1, points=2, scale=0.1).settled() == Decision(1)
    assert Decision(3, points=2).settled() == Decision(3)
    assert Decision(1, NOISE, 1, 0.1, "exact", "pseudo").settled().scale == 0.1


def test_a_plan_with_two_kinds_of_one_call_is_a_table():
    times = fewstep.grid("lam", VPLinear(), 4).times
    steps = (Decision(1, DATA), Decision(2, NOISE), Decision(2, DATA), Decision(1, NOISE))
    plan = Solver(times, steps).plan(VPLinear())
    assert any(len(call.outs) == 2 for call in plan.evaluations)
    table = table_of(plan, VPLinear())
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    ends = [fewstep.run(p, mixture(), x) for p in (plan, table.plan())]
    assert torch.allclose(*ends, rtol=0.0, atol=1e-10)


def test_the_search_gains_on_unseen_noises_and_follows_from_the_seed(monkeypatch):
    monkeypatch.setattr(solver_space, "_MOST", 240)
    made, again = (
        fewstep.tune(mixture(), 4, what="space", sampler="dpmpp_2m", **QUICK) for _ in range(2)
    )
    assert made.plan == again.plan
    assert made.report["kept"] == "tuned"
    assert [s["stage"] for s in made.report["stages"]] == ["space"]
    test = made.report["test"]
    assert test["tuned"]["median"] < 0.9 * test["untuned"]["median"]
    assert made.plan.nfe == 4


def test_stages_one_after_the_other(monkeypatch, tmp_path):
    monkeypatch.setattr(solver_space, "_MOST", 60)
    made = fewstep.tune(mixture(), 3, what="space+coefficients", sampler="ddim", **QUICK)
    assert [s["stage"] for s in made.report["stages"]] == ["space", "greedy", "coefficients"]
    made.save(tmp_path / "3.json")
    assert fewstep.engine.Tuned.load(tmp_path / "3.json") == made
    with pytest.raises(ArgumentError, match="did you mean 'space'"):
        fewstep.tune(mixture(), 3, what="search+spaces", **QUICK)


def test_one_call_has_no_space():
    made = fewstep.tune(mixture(), 1, what="space", sampler="ddim", **QUICK)
    assert made.report["kept"] == "untuned"


def test_a_network_that_rounds_times_keeps_them(monkeypatch):
    monkeypatch.setattr(solver_space, "_MOST", 60)

    class Network(torch.nn.Module):
        def forward(self, x, t):
            return x / (1.0 + 0.001 * t.reshape(-1, 1))

    betas = np.linspace(1e-4, 0.02, 1000)
    den = wrap(Network(), DiscreteVP.from_betas(betas), "eps", time="index", shape=(2,))
    made = fewstep.tune(den, 4, what="space", sampler="ddim", **QUICK)
    grids = [fewstep.plan("ddim", den, nfe=4, grid=g).nodes for g in ("auto", "lam")]
    assert made.plan.nodes in grids

"""``fewstep.tune``: a gain on noises that no fit has seen, what the report says, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError
from fewstep.engine import Tuned
from fewstep.engine.provenance import made_for
from fewstep.engine.tuning.problem import Problem
from fewstep.engine.tuning.restarts import shaken
from fewstep.engine.tuning.table import FEW_DIGITS, table_of
from fewstep.engine.tuning.trajectories import Model, Trajectories, TuneError, states_at
from fewstep.guidance import CFG
from fewstep.models import GaussianMixture, wrap
from fewstep.schedules import DiscreteVP, VPLinear
from fewstep.schedules.grids.auto import UNKNOWN

F64 = torch.float64
QUICK = {"trajectories": 32, "fine_steps": 64, "test": 128}


def mixture():
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.3]], dtype=F64)
    weights, stds = torch.tensor([0.4, 0.6], dtype=F64), torch.tensor([0.2, 0.4], dtype=F64)
    return GaussianMixture(means, stds, weights, VPLinear())


def test_a_tuned_plan_halves_the_error_on_unseen_noises():
    den = mixture()
    lines = []
    made = fewstep.tune(den, 4, sampler="unipc", report=lines.append, **QUICK)
    test = made.report["test"]
    assert test["tuned"]["median"] < 0.5 * test["untuned"]["median"]
    assert test["tuned"]["low"] <= test["tuned"]["median"] <= test["tuned"]["high"]
    assert made.plan.nfe == made.report["nfe"] == 4
    assert made.plan.exactness == "exact"
    assert made.report["kept"] == "tuned"
    assert made.report["step_orders"] == [1, 1, 1, 1]  # fitted to the model, not to monomials
    assert 0.0 < made.report["reference"]["error"] < test["tuned"]["median"]
    assert "note" not in made.report
    assert [s["stage"] for s in made.report["stages"]] == ["greedy", "joint", "restarts"]
    scores = [s["validation"] for s in made.report["stages"]]
    assert scores == sorted(scores, reverse=True)
    assert any(line.startswith("restarts: validation error") for line in lines)
    # on the user's own noises too
    fine = fewstep.sample(den, "unipc", steps=300, n=200, seed=0, grid="lam", order=3)
    errors = [
        (fewstep.sample(den, n=200, seed=0, **way) - fine).square().mean(1).sqrt().median()
        for way in ({"plan": made}, {"sampler": "unipc", "nfe": 4})
    ]
    assert errors[0] < 0.5 * errors[1]


def test_the_same_call_gives_the_same_plan():
    first, second = (
        fewstep.tune(mixture(), 3, what="coefficients", sampler="ddim", **QUICK) for _ in range(2)
    )
    assert first.plan == second.plan
    assert first.made_for == second.made_for == made_for(mixture())


def test_search_takes_the_best_and_times_do_not_make_it_worse(monkeypatch):
    from fewstep.engine.tuning import search

    monkeypatch.setattr(search, "SAMPLERS", (("ddim", {}), ("unipc", {"order": 2})))
    monkeypatch.setattr(search, "others", lambda: ())
    monkeypatch.setattr(search, "GRIDS", (("uniform", {}), ("lam", {})))
    found = fewstep.tune(mixture(), 4, what="search", **QUICK)
    assert found.report["kept"] == "untuned"
    assert found.report["untuned"] == "unipc:order=2 on lam"
    assert found.plan.close(fewstep.plan("unipc", mixture(), nfe=4, grid="lam", order=2))
    timed = fewstep.tune(mixture(), 4, what="times", **QUICK)
    assert timed.report["test"]["tuned"]["median"] < timed.report["test"]["untuned"]["median"]
    assert [s["stage"] for s in timed.report["stages"]] == ["search", "times"]


def test_without_a_gain_the_untuned_plan_is_returned():
    made = fewstep.tune(mixture(), 1, sampler="ddim", **QUICK)  # nothing is free in one call
    assert made.report["kept"] == "untuned"
    assert made.plan == fewstep.plan("ddim", mixture(), nfe=1)
    assert made.report["test"]["tuned"] == made.report["test"]["untuned"]


def test_a_spent_budget_leaves_the_stages_out():
    lines = []
    made = fewstep.tune(mixture(), 3, budget=0.0, sampler="ddim", report=lines.append, **QUICK)
    assert made.plan == fewstep.plan("ddim", mixture(), nfe=3)
    assert "greedy: left out, the budget is spent" in lines


@pytest.mark.parametrize("nfe", [5, 20])
def test_a_file_is_below_8_kB(nfe, tmp_path):
    made = fewstep.tune(CFG(mixture(), 2.0), 2, sampler="ddim", cond=_labels, **QUICK)
    plan = fewstep.plan("ddim", VPLinear(), nfe=nfe)
    table = table_of(plan, VPLinear())
    random = np.random.default_rng(0)
    weights = np.tril(random.standard_normal((nfe, nfe)))
    inner = table.inner + 1e-3 * random.random(nfe - 1)
    path = tmp_path / "tuned.json"
    found = Tuned(table.moved(inner, inner, weights).plan(FEW_DIGITS), made.made_for, made.report)
    found.save(path)
    assert path.stat().st_size < 8000
    assert Tuned.load(path) == found


def _labels(seeds):
    return torch.tensor([seed % 2 for seed in seeds])


def test_a_guided_model_with_conditions_of_the_seeds():
    den = CFG(mixture(), 2.0)
    made = fewstep.tune(den, 3, what="coefficients", sampler="ddim", cond=_labels, **QUICK)
    test = made.report["test"]
    assert test["tuned"]["median"] < 0.7 * test["untuned"]["median"]
    assert made.made_for.guidance == "CFG scale=2.0"


def test_converged_states_at_inner_nodes():
    den = mixture()
    plan = fewstep.plan("ddim", den, steps=4)
    random = torch.Generator().manual_seed(0)
    x = torch.randn(8, 2, generator=random, dtype=F64)
    given = Trajectories(range(8), x, None, x)
    found = states_at(Model(den), given, plan.nodes[1:-1], 128)
    for node, state in zip(plan.nodes[1:-1], found, strict=True):
        times = fewstep.grid("lam", den.schedule, 400).times
        times = [*(t for t in times if t > node.t + 1e-4), node.t]
        wanted = fewstep.sample(den, "dpmpp_3m", times=times, x=x)
        assert torch.allclose(state, wanted, atol=2e-4)


def test_a_network_that_rounds_times_keeps_its_nodes():
    betas = np.linspace(1e-4, 0.02, 1000)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones((), dtype=F64))

        def forward(self, x, t):
            return self.scale * x / (1.0 + 0.001 * t.reshape(-1, 1))

    den = wrap(Network(), DiscreteVP.from_betas(betas), "eps", time="index", shape=(2,))
    given = Trajectories(range(2), torch.zeros(2, 2), None, torch.zeros(2, 2))
    assert not Problem(Model(den), UNKNOWN, 3, given, given, 16).any_time
    assert Problem(Model(mixture()), UNKNOWN, 3, given, given, 16).any_time
    made = fewstep.tune(den, 3, sampler="ddim", **QUICK)
    assert [node.lam for node in made.plan.nodes] == [
        node.lam for node in fewstep.plan("ddim", den, nfe=3).nodes
    ]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"nfe": 0}, "nfe=0 must be an integer >= 1"),
        ({"what": "coefficient"}, "did you mean 'coefficients'"),
        ({"trajectories": 4}, "trajectories=4: too few"),
        ({"test": 2}, "test=2 must be an integer >= 16"),
        ({"budget": -1.0}, "budget=-1.0"),
        ({"sampler": "dpmpp_2m_sde"}, "draws noise"),
        ({"sampler": "unipcc"}, "did you mean 'unipc'"),
        ({"grid": "karras"}, "belong to a sampler"),
        ({"cond": torch.zeros(4)}, "a function of the seeds"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_what_cannot_be_tuned_is_refused(given, sentence):
    with pytest.raises(ArgumentError) as caught:
        fewstep.tune(mixture(), **{**QUICK, **given})
    assert sentence in str(caught.value)


def test_a_model_without_numbers_is_refused():
    class Broken(GaussianMixture):
        def raws(self, x_in, t, cond=None, channels=("main",)):
            return (torch.full_like(x_in, torch.nan),)

    den = mixture()
    broken = Broken(den.means, den.stds, den.weights, den.schedule)
    with pytest.raises(TuneError, match="converged trajectories are no numbers"):
        fewstep.tune(broken, 3, **QUICK)


def test_the_report_says_where_the_ends_are_not_converged():
    coarse = QUICK | {"fine_steps": 16}
    made = fewstep.tune(mixture(), 12, sampler="unipc", what="coefficients", **coarse)
    assert made.report["test"]["tuned"]["median"] < 2.0 * made.report["reference"]["error"]
    assert "is not far above that of the converged ends" in made.report["note"]
    assert "raise fine_steps" in made.report["note"]


def test_a_start_near_a_table_is_a_table():
    table = table_of(fewstep.plan("unipc", VPLinear(), nfe=5, grid="lam"), VPLinear())
    draws = np.random.default_rng(3)
    near = shaken(table, draws)
    assert near.weights.sum(1) == pytest.approx(np.ones(5))
    assert np.triu(near.weights, 1) == pytest.approx(np.zeros((5, 5)))
    assert (np.diff(near.inner) > 0.0).all()
    assert near.inner - table.inner == pytest.approx(near.labels - table.labels)
    assert 0.0 < np.abs(near.inner - table.inner).max() < 0.5 * np.diff(table.inner).min()
    assert near.plan().exactness == "exact"
    one = table_of(fewstep.plan("ddim", VPLinear(), nfe=1), VPLinear())
    assert shaken(one, draws) is None  # nothing to move


def test_the_search_covers_the_registry():
    from fewstep.engine.tuning.search import SAMPLERS, others
    from fewstep.samplers import registry

    tried = {name for name, _ in (*SAMPLERS, *others())}
    left = set(registry.names()) - tried
    for name in left:  # drivers, samplers that draw noise or read several predictions
        sampler = registry.get(name)
        drawn = sampler.form == "driver" or sampler.tau_of(sampler.options()) > 0.0
        assert drawn or sampler.guided, name
    assert {"gradient_estimation", "res_3s", "lms"} <= tried
    assert all(pair not in SAMPLERS for pair in others())


def test_a_sampler_outside_of_the_usual_ones_is_found(monkeypatch):
    from fewstep.engine.tuning import search

    monkeypatch.setattr(search, "SAMPLERS", (("ddim", {}),))
    monkeypatch.setattr(search, "others", lambda: (("res_2m", {}), ("dpmpp_3m", {})))
    monkeypatch.setattr(search, "GRIDS", (("lam", {}),))
    found = fewstep.tune(mixture(), 5, what="search", **QUICK)
    assert found.report["untuned"].endswith(" on lam")
    assert not found.report["untuned"].startswith("ddim")

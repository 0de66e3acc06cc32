"""``nfe=`` is a budget that is never exceeded, found in few plans; sizes that no machine has are
answered by a sentence."""

import itertools

import numpy as np
import pytest
import torch

import fewstep
from fewstep.checks import FewstepError
from fewstep.samplers import SamplerError, build, get, names
from fewstep.samplers import budgets as fitting
from fewstep.samplers.budgets import largest
from fewstep.samplers.drivers.driver import BudgetError
from fewstep.schedules import EDM, DiscreteVP, Flow, VPLinear

HOME = {
    "mr_ode": fewstep.schedules.MeanReverting(),
    "mr_sde": fewstep.schedules.MeanReverting(),
    "pfgmpp": fewstep.schedules.PFGMPP(64.0),
}
CASES = [(name, options) for name in names("plan") for options in ({}, *get(name).variants)]


def home(name):
    if name in HOME:
        return HOME[name]
    return Flow() if get(name).on[0] == "flow" else VPLinear()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_calls_rise_with_steps(name, options):
    calls = []
    for steps in (1, 2, 3, 4, 5, 6, 9):
        try:
            calls.append(fewstep.plan(name, home(name), steps=steps, **options).nfe)
        except FewstepError:  # a method that needs more steps
            assert not calls
    assert (
        len(calls) >= 5
        and all(a <= b for a, b in itertools.pairwise(calls))
        and calls[0] < calls[-1]
    )


@pytest.mark.parametrize("name", names("plan"))
def test_the_largest_plan_within_a_budget_is_found(name):
    for nfe in (3, 4, 7):
        try:
            found = fewstep.plan(name, home(name), nfe=nfe)
        except SamplerError:
            assert fewstep.plan(name, home(name), steps=1).nfe > nfe
            continue
        assert found.nfe <= nfe
        if get(name).fill is None:
            assert fewstep.plan(name, home(name), steps=found.steps + 1).nfe > nfe


@pytest.mark.parametrize(
    ("name", "orders", "nfe"),
    [
        ("dpm_solver_3", (3, 3, 3), 3),
        ("dpmpp_3s", (3, 2, 3), 3),
        ("dpm_solver_2", (2, 2), 2),
        ("dpm_fast", (2, 1, 2), 3),
    ],
)
def test_orders_that_cost_more_are_refused(name, orders, nfe):
    with pytest.raises(SamplerError, match=f"nfe={nfe}"):
        fewstep.plan(name, VPLinear(), nfe=nfe, orders=orders)
    assert fewstep.plan(name, VPLinear(), nfe=12, orders=orders).nfe <= 12


def test_few_plans_are_made(monkeypatch):
    made = []

    def counted(name, grid, options):
        made.append(grid.steps)
        return build(name, grid, options)

    monkeypatch.setattr(fitting, "build", counted)
    assert fewstep.plan("heun", VPLinear(), nfe=301).nfe == 301
    assert fewstep.plan("restart", EDM(), nfe=300).nfe <= 300
    assert len(made) < 30


@pytest.mark.parametrize(
    "cost",
    [
        lambda n: n,
        lambda n: 2 * n - 1,
        lambda n: n * n,
        lambda n: 5 * n + 7,
        lambda n: None if n > 77 else n,
    ],
)
def test_largest_is_the_largest(cost):
    seen = []

    def watched(n):
        seen.append(n)
        return cost(n)

    for budget in (1, 2, 11, 12, 50, 99, 100):
        want = max(
            (n for n in range(1, 101) if cost(n) is not None and cost(n) <= budget), default=0
        )
        seen.clear()
        assert largest(watched, 100, budget) == want
        assert len(seen) <= 16


def test_a_short_table_gives_its_longest_plan():
    table = DiscreteVP.from_betas(np.linspace(0.05, 0.3, 8))
    found = fewstep.plan("ddim", table, nfe=500, grid="leading")
    assert found.nfe == max(n for n in range(1, 9) if _leads(table, n))
    assert fewstep.plan("dpm_solver_3", table, nfe=50, grid="leading").nfe <= 50


def _leads(table, steps):
    try:
        return fewstep.plan("ddim", table, steps=steps, grid="leading").nfe == steps
    except FewstepError:
        return False


def test_a_given_grid_is_held_to_the_budget():
    times = [1.0, 0.7, 0.4, 0.1, 1e-3]
    assert fewstep.plan("heun", VPLinear(), times=times, nfe=8).steps == 4
    with pytest.raises(SamplerError, match="nfe=7"):
        fewstep.plan("heun", VPLinear(), times=times, nfe=7)


def test_samples_of_their_own_steps_share_the_budget():
    den = fewstep.models.load("mixture")
    need = fewstep.sample(den, "ode45", per_sample=True, n=2, rtol=1e-2, atol=1e-2, info=True)[
        1
    ].nfe
    assert (
        fewstep.sample(
            den, "ode45", per_sample=True, n=2, rtol=1e-2, atol=1e-2, nfe=need, info=True
        )[1].nfe
        == need
    )
    with pytest.raises(BudgetError) as stop:
        fewstep.sample(den, "ode45", per_sample=True, n=2, rtol=1e-2, atol=1e-2, nfe=need - 1)
    assert stop.value.nfe <= need - 1


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"n": 10**12}, "1000000000000"),
        ({"steps": 10**9}, "1000000000"),
        ({"nfe": 10**9}, "1000000000"),
        ({"seeds": range(10**12)}, "1000000000000"),
        ({"seeds": range(10**30)}, "seeds"),
        ({"n": 2**24, "steps": 2, "shape": (3, 512, 512)}, "GiB"),
        ({"device": "cudda"}, "cudda"),
        ({"device": "meta:77:1"}, "meta:77:1"),
        ({"n": 0}, "n=0"),
    ],
)
def test_what_no_machine_has_is_answered_by_a_sentence(given, named):
    den = fewstep.models.wrap(lambda x, t: x, VPLinear(), "x0")
    with pytest.raises(FewstepError, match=named):
        fewstep.sample(den, "ddim", **{"shape": (2,), **given})


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is here")
def test_an_accelerator_that_is_not_here():
    den = fewstep.models.load("mixture")
    for call in (
        lambda: fewstep.sample(den, device="cuda"),
        lambda: fewstep.models.load("mnist", device="cuda:1"),
    ):
        with pytest.raises(FewstepError, match="cuda.*allowed: cpu"):
            call()


def test_the_floor_of_steps_in_t_on_a_table_is_told():
    table = DiscreteVP.from_betas(np.linspace(1e-4, 0.02, 1000))
    assert (
        fewstep.samplers.describe("flow_heun")["table_floor"] == 1e-4
        and fewstep.samplers.describe("heun")["table_floor"] is None
    )
    with pytest.warns(UserWarning, match="flow_heun steps in t"):
        fewstep.plan("flow_heun", table, grid="uniform", steps=80)
    for name, schedule, steps in (
        ("flow_heun", table, 20),
        ("heun", table, 80),
        ("flow_heun", Flow(), 80),
    ):
        fewstep.plan(name, schedule, grid="uniform", steps=steps)  # warnings are errors here

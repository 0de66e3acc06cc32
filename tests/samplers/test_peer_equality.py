"""Our plans against the peers' own code: the same model calls, the same noise, the same result.

Every trusted run of a peer whose sampler we have is replayed in float64. Tolerance: 1e-9 in the
peer's coordinates; 1e-7 on the cosine table, which starts at alpha = 5e-5. What a peer does
differently is pinned in a test of its own: its rule, written down here, gives its result to the
same tolerance, and ours does not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from golden_cases import (
    SCHEDULES,
    Case,
    Point,
    cases,
    index,
    model,
    plan_of,
    replay,
    replay_written,
    run,
    same,
)
from golden_recipes import deviation, recipe
from golden_rules import (
    Relabelled,
    Write,
    edm_clock,
    exact_integral,
    half_of_second_difference,
    half_weight_in_stage,
    ipndm_without_data,
    linear_beta_clock,
    rho_clock,
    riemann_sum,
)

from fewstep.samplers import ALIASES, build, get, make_options, names
from fewstep.schedules import Grid

CASES = cases()
EQUAL = {case.id: case for case in CASES.values() if deviation(case) is None}
#: a deviation smaller than this would need no pin
VISIBLE = 1e-7
#: with their formulas written out in ``test_churn_restart``, ``test_dynamics``,
#: ``test_flow_cps``, ``test_mean_reverting``, ``test_pfgmpp``, ``test_skipped``,
#: ``test_fewstep_samplers``, ``test_dc_solver``
DYNAMICS = {
    "dc_solver",
    "restart",
    "flow_cps",
    "flow_sde",
    "interpolant_ode",
    "interpolant_sde",
    "mr_ode",
    "mr_sde",
    "pfgmpp",
    "skipped",
    "consistency",
    "lcm",
    "tcd",
}
#: with golden values, identities or an independent rule in ``test_exponential``
EXPONENTIAL = {
    "etdrk4",
    "exponential_adams",
    "flow_adams",
    "ghvb",
    "gradient_estimation",
    "heavy_ball",
    "ipndm_v",
    "ipndm_v_compat",
}
#: by the loops of their authors' code in ``test_invertible_samplers``
INVERTIBLE = {"bdia", "belm", "edict", "fireflow", "flow_belm", "reversible_heun"}
EXPONENTIAL |= {"res_2m", "res_2s", "res_3s", "unip"}
#: by the formulas of the paper and numbers of the authors' code in ``test_dpm_solver_v3``
EXPONENTIAL |= {"dpm_solver_v3"}
STOCHASTIC = {"er_sde", "er_sde_compat", "seeds_2", "seeds_3", "dpmpp_3m_sde"}
PINNED = {
    "Riemann sum": 48,
    "Riemann sum in the VP time": 6,
    "half of the second difference": 21,
    "half weight in the stage": 11,
    "no data at alpha = 0": 3,
    "noise at the end": 2,
    "label off the state": 2,
}


def tolerance(case: Case) -> float:
    return 1e-7 if case.schedule == "cosine" else 1e-9


def difference(case: Case, changed: dict[str, object] | None = None) -> float:
    sampler, options, where = recipe(case)
    return replay(case, sampler, {**options, **(changed or {})}, where).largest


def groups(peer: str) -> list[str]:
    return sorted(
        {f"{case.sampler}/{case.schedule}" for case in EQUAL.values() if case.peer == peer}
    )


def check_group(peer: str, group: str) -> None:
    chosen = [
        case
        for case in EQUAL.values()
        if case.peer == peer and f"{case.sampler}/{case.schedule}" == group
    ]
    assert chosen
    off = {case.id: d for case in chosen if not (d := difference(case)) <= tolerance(case)}
    assert not off


def deviating(name: str) -> list[Case]:
    return [case for case in CASES.values() if deviation(case) == name]


def check_pinned(case: Case, rule: Write, most: float) -> None:
    """The peer's rule gives its result; our sampler is off by something that shows, and by no more
    than ``most``."""
    assert replay_written(case, rule, recipe(case).where).largest <= tolerance(case)
    assert VISIBLE < difference(case) < most


@pytest.mark.parametrize("group", groups("diffusers"))
def test_diffusers(group):
    check_group("diffusers", group)


@pytest.mark.parametrize("group", groups("k-diffusion"))
def test_k_diffusion(group):
    check_group("k-diffusion", group)


@pytest.mark.parametrize("group", groups("dpm-solver"))
def test_dpm_solver_official(group):
    check_group("dpm-solver", group)


@pytest.mark.parametrize("group", groups("UniPC"))
def test_unipc_official(group):
    check_group("UniPC", group)


@pytest.mark.parametrize("group", groups("DC-Solver"))
def test_dc_solver_without_compensation_is_unipc(group):
    check_group("DC-Solver", group)


@pytest.mark.parametrize("group", groups("deis"))
def test_deis_official(group):
    """iPNDM and rho-RK; the Adams-Bashforth forms are pinned below."""
    check_group("deis", group)


@pytest.mark.parametrize("group", groups("diff-sampler"))
def test_diff_sampler(group):
    check_group("diff-sampler", group)


@pytest.mark.parametrize("group", groups("PNDM"))
def test_pndm_official(group):
    check_group("PNDM", group)


@pytest.mark.parametrize("group", groups("edm"))
def test_edm_official(group):
    check_group("edm", group)


@pytest.mark.parametrize("group", groups("azula"))
def test_azula(group):
    check_group("azula", group)


@pytest.mark.parametrize("group", groups("flow_matching"))
def test_flow_matching(group):
    check_group("flow_matching", group)


@pytest.mark.parametrize("variant", ["tab", "rhoab"])
def test_deis_official_sums_its_integrals(variant):
    """The peer takes every Adams-Bashforth coefficient as a left Riemann sum over 10 000 points;
    ours are the integrals.

    With its sum its result is met. The sum's error is first order in the length of the steps, so it
    is largest where steps are long.
    """
    clock, most = (
        (rho_clock(), 3e-4) if variant == "rhoab" else (linear_beta_clock(0.1, 20.0), 3e-2)
    )
    found = [
        case for case in deviating("Riemann sum") if recipe(case).options["variant"] == variant
    ]
    assert len(found) == {"tab": 27, "rhoab": 21}[variant]
    for case in found:
        check_pinned(case, riemann_sum(recipe(case).options["order"], clock, endpoint=False), most)


@pytest.mark.parametrize(
    "id_",
    ["deis.vp_linear.tab1.t2.s5", "deis.vp_linear.tab3.rho7.s10", "deis.vp_linear.rhoab2.t2.s10"],
)
def test_the_sum_converges_to_our_integral(id_):
    """Ten times the points, a tenth of the difference to our plan: nothing but the sum is
    different."""
    case = CASES[id_]
    sampler, options, where = recipe(case)
    clock = rho_clock() if options["variant"] == "rhoab" else linear_beta_clock(0.1, 20.0)
    exact = replay(case, sampler, options, where).ours
    off = []
    for items in (10_000, 100_000):
        summed = replay_written(
            case, riemann_sum(options["order"], clock, endpoint=False, items=items), where
        ).ours
        off.append(float((summed - exact).abs().max()))
    assert 9.0 < off[0] / off[1] < 11.0


def test_diff_sampler_sums_in_the_time_of_a_vp_path():
    """Its t-AB maps sigma to the time of a VP path of linear beta (sigma_min at 1e-3, sigma_max at
    1), interpolates in that time and sums over 10 000 points; on an EDM schedule our t is sigma
    itself. The integral in that time is near its sum, ours in sigma is not."""
    found = deviating("Riemann sum in the VP time")
    for case in found:
        order, where = recipe(case).options["order"], recipe(case).where
        check_pinned(case, riemann_sum(order, edm_clock(), endpoint=True), 10.0)
        assert replay_written(case, exact_integral(order, edm_clock()), where).largest < min(
            0.03, 0.5 * difference(case)
        )


def test_noise_form_3m_takes_half_of_the_second_difference():
    """DPM-Solver 3M, official and diffusers: the second divided difference stands for half of h^2
    m'' but is weighed as if it were all of it, which makes a second-order method. Ours is of third
    order; the halved rule meets the peers."""
    for case in deviating("half of the second difference"):
        check_pinned(
            case, half_of_second_difference(recipe(case).options["lower_order_final"]), 1.0
        )


def test_diffusers_3s_weighs_its_stage_by_a_half():
    """DPMSolverSinglestepScheduler of order 3 makes its third stage with the final step of its
    second-order method (weight 1/2); the official code and ours take the exact weight there. At
    five steps the two forms may land in different modes."""
    for case in deviating("half weight in the stage"):
        check_pinned(
            case, half_weight_in_stage("x0" if recipe(case).sampler == "dpmpp_3s" else "eps"), 10.0
        )


def test_diffusers_ipndm_knows_no_data_at_alpha_zero():
    """Its table begins at alpha = 0, where (x - sigma e) / max(alpha, 1e-8) is 0: the first step
    drops the model's data prediction, and the noise prediction there (the start noise) is kept in
    the history. Our first step out of alpha = 0 uses the data prediction."""
    for case in deviating("no data at alpha = 0"):
        check_pinned(case, ipndm_without_data, 10.0)


def test_diffusers_ddpm_fixed_large_adds_noise_at_the_end():
    """With trailing spacing the last step starts at t > 0 and the larger variance is not 0 where
    alpha = 1: the sample keeps noise of the last level's sigma. Ours ends clean; adding that noise
    meets the peer."""
    for case in deviating("noise at the end"):
        ours = replay(case, *recipe(case))
        assert len(case.noise) == case.steps
        added = case.calls[-1].sigma * case.noise[-1]
        assert float((ours.ours + added - case.out).abs().max()) <= tolerance(case)
        assert ours.largest > 0.1


def test_rectified_flow_labels_another_time_than_its_states():
    """The state moves from t to t - 1/N, the model is told 0.999 t: the label runs from 0.999 while
    the state starts at 1."""
    for case in deviating("label off the state"):
        flow = SCHEDULES["flow"]
        grid = Grid.from_nodes(
            [flow.node(1.0 - i / case.steps) for i in range(case.steps + 1)], flow
        )
        plan = build("flow_euler", grid, make_options(get("flow_euler"), {}))
        labels = [0.999 * e.node.t for e in plan.evaluations]
        assert all(
            same(t / (1.0 - t), call.rho, 1e-9) for t, call in zip(labels, case.calls, strict=True)
        )
        told = run(case, plan, Relabelled(model(flow, "velocity"), lambda t: 0.999 * t))
        assert told.largest <= tolerance(case)
        assert VISIBLE < run(case, plan).largest < 0.5


def test_diffusers_pndm_makes_a_last_call_for_nothing():
    """With leading spacing and set_alpha_to_one=False its last step goes from index 0 to index 0:
    one call that moves nothing, left out."""
    found = [case for case in CASES.values() if case.sampler == "PNDMScheduler"]
    assert len(found) == 12 and all(case.idle_call for case in found)
    for case in found:
        assert plan_of(case, *recipe(case)).nfe == len(case.calls) - 1


@pytest.mark.parametrize(
    ("id_", "changed"),
    [
        ("unipc.sd.x0.bh2.o2.logSNR.n10", {"variant": "bh1"}),
        ("unipc.sd.x0.bh2.o2.logSNR.n10", {"corrector": False}),
        ("diffusers.dpmm.ddpm.pp.o3.sigma_min.n20", {"lower_order_final": True}),
        ("diffusers.dpmm.ddpm.pp.o2.zero.n10", {"correction": "taylor"}),
        ("k-diffusion.dpmpp_2m_sde.eta0.5.edm.karras.n20", {"eta": 0.51}),
        ("diff-sampler.ipndm.o3.polynomial7.s10", {"order": 4}),
        ("k-diffusion.lms.o3.edm.karras.n10", {"order": 4}),
    ],
)
def test_the_comparison_sees_a_wrong_option(id_, changed):
    assert difference(CASES[id_]) <= 1e-9
    assert difference(CASES[id_], changed) > 1e-5


def test_the_comparison_sees_wrong_evaluations():
    """Heun's calls are not Euler's, and a level moved by a millionth is another level."""
    case = CASES["edm.edm_sampler.heun.karras.s10"]
    sampler, options, where = recipe(case)
    with pytest.raises(AssertionError, match="evaluations"):
        replay(case, "euler", {}, where)
    moved = Point(case.calls[3].alpha, case.calls[3].sigma * (1.0 + 1e-6))
    with pytest.raises(AssertionError, match="evaluation 3"):
        replay(
            replace(case, calls=(*case.calls[:3], moved, *case.calls[4:])), sampler, options, where
        )


def test_aliases_say_what_the_recipes_say():
    """The alias of a peer's class or function names the sampler, and options, that at least one of
    its runs was replayed with."""
    for name in {case.sampler for case in CASES.values()} & set(ALIASES):
        recipes = [recipe(case) for case in CASES.values() if case.sampler == name]
        alias = ALIASES[name]
        assert any(
            r.sampler == alias.sampler and alias.options.items() <= r.options.items()
            for r in recipes
        ), name


def test_no_case_is_lost():
    """Counts of the file, so that a recipe which gives up, or a deviation that grows, shows
    here."""
    counts = Counter(deviation(case) for case in CASES.values())
    assert counts.pop(None) == len(EQUAL) >= 650
    assert counts == PINNED
    assert len(CASES) + sum(index()["left_out"].values()) == 915


def test_every_sampler_meets_a_peer():
    """Every registered plan is replayed against somebody; nobody has the midpoint rule in rho. The
    predictors of score_sde are replayed in ``test_predictor_corrector``; ER-SDE and SEEDS have
    golden values or identities in ``test_stochastic``, and so has the right 3M SDE; samplers that
    read several predictions are compared with published loops in ``guided/test_cfg_pp``."""
    plans = {name for name in names() if get(name).form == "plan" and not get(name).guided}
    left = {"midpoint", "euler_maruyama", "reverse_diffusion"} | STOCHASTIC | EXPONENTIAL | DYNAMICS
    left |= INVERTIBLE
    assert plans - {recipe(case).sampler for case in CASES.values()} <= left

"""Exponential Runge-Kutta and Adams methods, momentum, DPM-Solver-fast and the analytic first step:
golden values, names that are options of one function, choices a step, and peers' rules written
independently."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from golden_cases import SCHEDULES, cases, check_calls, run

import fewstep
from fewstep.eval.certificates.problem import MEANS, STDS, WEIGHTS, smooth_grid
from fewstep.models import GaussianMixture
from fewstep.plans import Plan, walked_order
from fewstep.plans.weights.exponential import adams
from fewstep.samplers import SamplerError, build, get, make_options, names
from fewstep.samplers.multistep.compat import misplaced_adams
from fewstep.samplers.multistep.momentum import damped_adams
from fewstep.schedules import EDM, VE, Flow, Grid, SubVP, Trig, VPCosine, VPLinear

VP = VPLinear()
PATHS = {"vp": VP, "flow": Flow(3.0), "edm": EDM(0.002, 80.0)}

#: end states at lam = 1.6 of the model and grid below, twelve digits, from an implementation that
#: shares no code with this one
GOLDEN = {
    ("res_2s", ()): (-1.779882185851, 0.473862193207, 2.342634756569),
    ("res_3s", ()): (-1.783010250019, 0.474513451679, 2.350312060205),
    ("res_2m", (("lower_order_final", False),)): (-1.828982609638, 0.491639673371, 2.412356473429),
    ("etdrk4", ()): (-1.781775292579, 0.474617174090, 2.348535634186),
    ("ghvb", (("order", 1.8),)): (-1.748405953386, 0.476365695089, 2.294635406841),
    ("gradient_estimation", ()): (-1.824644338589, 0.479639738772, 2.435486290893),
    ("ipndm_v", (("order", 2),)): (-1.702564843134, 0.467181415247, 2.227196113286),
    ("ipndm_v", (("order", 3),)): (-1.715206339259, 0.467601175989, 2.251422318451),
    ("ipndm_v", ()): (-1.716466600146, 0.466410870513, 2.256944392872),
    ("dpm_fast", ()): (-1.780670534283, 0.474785496427, 2.346694303915),
    ("exponential_adams", (("order", 2), ("lower_order_final", False))): (
        -1.828982609638,
        0.491639673371,
        2.412356473429,
    ),
    ("exponential_adams", (("lower_order_final", False),)): (
        -1.749714211866,
        0.459141298309,
        2.369340412638,
    ),
    ("exponential_adams", (("kind", "eps"), ("variable", "t"), ("lower_order_final", False))): (
        -1.750340350032,
        0.474258783213,
        2.309003021808,
    ),
    ("unip", (("lower_order_final", False),)): (-1.806451310582, 0.487445017250, 2.378279497110),
}


def planned(name, grid, **options):
    return build(name, grid, make_options(get(name), options))


@pytest.mark.parametrize(("name", "options"), GOLDEN)
def test_golden_values(name, options):
    grid = Grid.from_nodes([VP.node_at_lam(lam) for lam in (-2.0, -1.3, -0.6, 0.1, 0.8, 1.6)], VP)
    means = torch.tensor(MEANS, dtype=torch.float64)[:, None]
    model = GaussianMixture(
        means,
        torch.tensor(STDS, dtype=torch.float64),
        torch.tensor(WEIGHTS, dtype=torch.float64),
        VP,
        "eps",
    )
    x = grid[0].alpha * math.exp(2.0) * torch.tensor([[-2.0], [0.3], [2.3]], dtype=torch.float64)
    out = fewstep.run(planned(name, grid, **dict(options)), model, x).flatten()
    torch.testing.assert_close(
        out, torch.tensor(GOLDEN[name, options], dtype=torch.float64), rtol=0.0, atol=2e-12
    )


#: (name, its options, options of exponential_adams)
NAMED = [
    ("dpmpp_2m", {}, {"order": 2, "correction": "midpoint"}),
    ("dpmpp_2m", {"correction": "taylor"}, {"order": 2}),
    ("res_2m", {}, {"order": 2}),
    ("dpmpp_3m", {}, {"order": 3, "correction": "midpoint"}),
    ("dpm_solver_2m", {}, {"order": 2, "kind": "eps", "correction": "midpoint"}),
    (
        "dpm_solver_3m",
        {"lower_order_final": False},
        {"kind": "eps", "correction": "midpoint", "lower_order_final": False},
    ),
    ("dpm_solver_1", {}, {"order": 1, "kind": "eps"}),
    ("deis", {}, {"kind": "eps", "variable": "t", "lower_order_final": False}),
    ("deis", {"variant": "rhoab"}, {"kind": "eps", "variable": "rho", "lower_order_final": False}),
    (
        "deis",
        {"variant": "logrho", "order": 4},
        {"order": 4, "kind": "eps", "lower_order_final": False},
    ),
    ("lms", {}, {"order": 4, "kind": "eps", "variable": "rho", "lower_order_final": False}),
    ("ipndm_v", {}, {"order": 4, "kind": "eps", "variable": "rho", "lower_order_final": False}),
    ("unip", {"order": 4}, {"order": 4, "correction": "midpoint"}),
    ("unip", {"variant": "bh1", "kind": "eps"}, {"order": 2, "kind": "eps", "correction": "bh1"}),
    ("unipc", {}, {"order": 2, "correction": "midpoint", "corrector": "pseudo"}),
    (
        "unipc",
        {"order": 3, "variant": "bh1", "kind": "eps"},
        {"kind": "eps", "correction": "bh1", "corrector": "pseudo"},
    ),
    ("unipc", {"order": 3, "variant": "vary_coeff"}, {"corrector": "pseudo"}),
]


@pytest.mark.parametrize(
    ("name", "options", "choice"), NAMED, ids=[f"{n}-{o}" for n, o, _ in NAMED]
)
def test_named_methods_are_choices(name, options, choice):
    for schedule in PATHS.values():
        for steps in (1, 2, 7):
            plan = fewstep.plan(name, schedule, steps=steps, grid="lam", **options)
            assert plan == fewstep.plan(
                "exponential_adams", schedule, steps=steps, grid="lam", **choice
            )


def test_other_names_are_choices():
    assert fewstep.plan("ddim", VP, steps=6).close(
        fewstep.plan("exponential_adams", VP, steps=6, order=1), 1e-14
    )
    flow = fewstep.plan(
        "exponential_adams",
        Flow(),
        steps=6,
        grid="uniform",
        start=0.9,
        kind="velocity",
        variable="t",
        order=3,
    )
    assert flow == fewstep.plan(
        "flow_adams", Flow(), steps=6, grid="uniform", start=0.9, order=3, lower_order_final=True
    )
    assert fewstep.plan("flow_adams", Flow(), steps=6, grid="uniform", order=1).close(
        fewstep.plan("flow_euler", Flow(), steps=6, grid="uniform")
    )


@pytest.mark.parametrize(
    ("name", "options", "other", "others"),
    [
        ("ipndm_v", {}, "lms", {}),
        ("ghvb", {"order": 4.0}, "ipndm", {}),
        ("ghvb", {"order": 2.0}, "ipndm", {"order": 2}),
        ("heavy_ball", {"beta": 1.0}, "ipndm", {}),
        ("dpm_fast", {}, "dpm_solver_3", {}),
        ("res_2s", {"kind": "eps"}, "dpm_solver_2", {"correction": "taylor"}),
        ("res_2s", {}, "dpmpp_2s", {"correction": "taylor"}),
        ("res_3s", {"c2": 1 / 3, "c3": 2 / 3}, "dpmpp_3s", {}),
        ("res_3s", {"c2": 1 / 3, "c3": 2 / 3, "kind": "eps"}, "dpm_solver_3", {}),
        ("res_3s", {}, "res_3s", {"gamma": "compat"}),
        ("gradient_estimation", {"gamma": 1.0}, "euler", {}),
        ("heavy_ball", {"beta": 1.0, "base": "dpmpp_2m"}, "dpmpp_2m", {}),
        (
            "unipc",
            {"variant": "vary_coeff_compat", "order": 1},
            "unipc",
            {"variant": "vary_coeff", "order": 1},
        ),
    ],
)
def test_methods_meet_where_they_are_the_same(name, options, other, others):
    """Up to rounding, and to the form in which a step is written: the results on one model are
    compared."""
    for schedule in PATHS.values():
        a, b = (
            fewstep.plan(n, schedule, steps=7, grid="lam", **o)
            for n, o in ((name, options), (other, others))
        )
        assert a.nfe == b.nfe
        torch.testing.assert_close(
            sampled(a, schedule), sampled(b, schedule), rtol=1e-11, atol=1e-11
        )


@cache
def model(schedule, *, standard=False):
    means, stds, shares = (
        ([[0.0, 0.0]], [1.0], [1.0])
        if standard
        else ([[1.0, -0.5], [-0.8, 0.6]], [0.3, 0.4], [0.6, 0.4])
    )
    return GaussianMixture(
        *(torch.tensor(v, dtype=torch.float64) for v in (means, stds, shares)), schedule, "v"
    )


def start(plan):
    return plan.start.sigma * torch.randn(
        4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )


def sampled(plan, schedule, *, standard=False):
    draws = [
        torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(k + 2))
        for k in range(len(plan.draws))
    ]
    return fewstep.run(plan, model(schedule, standard=standard), start(plan), noise=draws or None)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("res_3s", {"c2": 2 / 3}, "r1 = 2/3"),
        ("res_3s", {"c2": 0.8, "c3": 0.8}, "r1 = r2"),
        ("res_3s", {"c2": 0.25, "c3": 0.5, "gamma": "compat"}, "pole"),
        ("res_2s", {"c2": 0.0}, "c2=0.0 must be a number from"),
        ("etdrk4", {"tableau": "rk4"}, "krogstad"),
        ("ghvb", {"order": 2.01}, "must be at least 0.05"),
        ("heavy_ball", {"beta": 0.0}, "beta=0.0"),
        ("pndm", {"variant": "G"}, "variant"),
        ("unip", {"variant": "vary_coeff_compat"}, "vary_coeff"),
        ("dpm_fast", {"orders": (3, 3)}, "2 blocks for 5 grid intervals"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        fewstep.plan(name, VP, steps=5, **options)


def test_vary_coeff_differs_from_bh_where_two_nodes_meet():
    a, b, c = (
        fewstep.plan("unipc", VP, steps=8, variant=v)
        for v in ("vary_coeff", "bh2", "vary_coeff_compat")
    )
    assert not a.close(b, 1e-3)
    assert not a.close(c, 1e-3)


# choices a step


def test_tuples_of_one_value_are_that_value():
    plan = fewstep.plan(
        "exponential_adams",
        VP,
        steps=6,
        grid="lam",
        order=(3,) * 6,
        kind=("x0",) * 6,
        corrector=["pseudo"] * 6,
    )
    assert plan == fewstep.plan(
        "exponential_adams", VP, steps=6, grid="lam", order=3, corrector="pseudo"
    )


def test_one_call_serves_every_kind_that_is_asked_of_it():
    kinds = ("x0", "eps", "x0", "x0", "eps", "x0")
    plan = fewstep.plan("exponential_adams", VP, steps=6, order=(1, 2, 2, 1, 3, 1), kind=kinds)
    assert plan.nfe == 6
    # node 2 serves step 2 as x0 and step 4, which reaches back over three nodes, as eps
    served = [("x0", "eps"), ("eps", "x0"), ("x0", "eps"), ("x0", "eps"), ("eps",), ("x0",)]
    assert [tuple(kind for _, kind, _ in e.outs) for e in plan.evaluations] == served
    assert bool(torch.isfinite(sampled(plan, VP)).all())


def test_a_change_of_kind_and_variable_keeps_the_order():
    def plan_of(n):
        kind = tuple(("x0", "eps")[i % 2] for i in range(n))
        variable = tuple(("lam", "rho", "t")[i % 3] for i in range(n))
        return planned(
            "exponential_adams",
            smooth_grid(VP, n),
            order=3,
            kind=kind,
            variable=variable,
            lower_order_final=False,
        )

    assert plan_of(12).exactness == "exact"
    assert abs(walked_order(plan_of) - 3.0) < 0.15


def test_the_smallest_order_of_a_step_is_declared():
    entry = get("exponential_adams")
    assert (
        entry.order_of(
            make_options(entry, {"order": (3, 2, 4), "corrector": ("none", "pseudo", "none")})
        )
        == 3
    )
    assert entry.order_of(make_options(entry, {"order": (3, 1, 4)})) == 1
    assert entry.order_of(make_options(entry, {"order": 4, "points": (0, 1, 0)})) == 2
    assert entry.order_of(make_options(entry, {"scale": 0.1, "corrector": "pseudo"})) == 2


def test_an_implicit_corrector_evaluates_again():
    plain, again = (
        fewstep.plan("exponential_adams", VP, steps=5, corrector=c) for c in ("pseudo", "implicit")
    )
    assert (plain.nfe, again.nfe) == (5, 9)


def test_the_step_out_of_alpha_zero_ignores_its_choice():
    a, b = (
        fewstep.plan(
            "exponential_adams", Flow(), steps=4, grid="uniform", kind=(k, "x0", "x0", "x0")
        )
        for k in ("eps", "x0")
    )
    assert a == b


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 7}, "order=7 must be an integer from 1 to 6"),
        ({"order": 6, "corrector": "pseudo"}, "with a corrector"),
        ({"order": (2, 2)}, "2 entries for 5 steps"),
        ({"order": (2,) * 5, "kind": ("x0",) * 4}, "must all have one entry per step, got lengths"),
        ({"order": ()}, "one entry per step"),
        ({"kind": "x"}, "x0"),
        ({"kind": "velocity"}, "must be 't' with kind='velocity'"),
        ({"variable": "rho", "correction": "midpoint"}, "requires variable='lam'"),
        ({"corrector": "on"}, "pseudo"),
        ({"points": 6}, "points=6 must be an integer from 0 to 5"),
        ({"scale": (0.0,) * 3}, "3 entries for 5 steps"),
        ({"points": 1, "kind": "v"}, "points=1 with kind='v'"),
    ],
)
def test_bad_choices_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        fewstep.plan("exponential_adams", VP, steps=5, **options)


# momentum


def test_damped_weights_are_the_published_ones():
    """arXiv 2307.11118: the constants of GHVB for one to five nodes (divided by beta here)."""
    for beta in (0.3, 0.8, 1.0):
        published = [
            (beta,),
            ((2 + beta) / 2, -(2 - beta) / 2),
            ((18 + 5 * beta) / 12, -(24 - 8 * beta) / 12, (6 - beta) / 12),
            ((46 + 9 * beta) / 24, -(78 - 19 * beta) / 24, (42 - 5 * beta) / 24, -(10 - beta) / 24),
            tuple(
                c / 720
                for c in (
                    1650 + 251 * beta,
                    -(3420 - 646 * beta),
                    2880 - 264 * beta,
                    -(1380 - 106 * beta),
                    270 - 19 * beta,
                )
            ),
        ]
        for k, wanted in enumerate(published, 1):
            assert damped_adams(k, beta) == pytest.approx([w / beta for w in wanted], rel=1e-13)


def test_heavy_ball_ends_on_the_newest_prediction():
    """To sigma = 0 the sample is a data prediction, not a mean of several."""
    plan = fewstep.plan("heavy_ball", VP, steps=5, base="dpmpp_2m")
    last = plan.code[-1]
    assert last.terms == ((plan.evaluations[-1].outs[0][0], 1.0),)


# iPNDM_v as its code has it


def test_the_mistakes_of_ipndm_v():
    # equal steps hide the first slip
    assert misplaced_adams([-1.0] * 3) == pytest.approx(adams(3), rel=1e-14)
    # and show the second: 55, -59, 37, -9
    assert [24.0 * w for w in misplaced_adams([-1.0] * 4)] == pytest.approx(
        [57.0, -65.0, 43.0, -11.0]
    )
    assert not math.isclose(sum(misplaced_adams([-1.0, -1.3, -1.9, -2.0])), 1.0, abs_tol=1e-3)
    right, slipped = (fewstep.plan(n, VP, steps=8, order=3) for n in ("ipndm_v", "ipndm_v_compat"))
    assert not right.close(slipped, 1e-3)


def test_order_four_of_ipndm_v_compat_is_second_order():
    def plan_of(n):
        return planned("ipndm_v_compat", smooth_grid(VP, n), order=4)

    assert plan_of(10).exactness == "signal"
    assert abs(walked_order(plan_of) - 2.0) < 0.15


# DPM-Solver-fast


FAST = [case for case in cases().values() if case.sampler == "sample_dpm_fast"]


@pytest.mark.parametrize("case", FAST, ids=[case.id for case in FAST])
def test_dpm_fast_makes_the_nodes_of_k_diffusion(case):
    """From the front door: the budget alone, on the grid uniform in lam."""
    plan = fewstep.plan("sample_dpm_fast", SCHEDULES["edm"], nfe=case.steps, final="sigma_min")
    assert plan.nfe == case.steps
    check_calls(case, plan)
    assert run(case, plan).largest < 1e-11


def k_diffusion_fast(denoise, x, high, low, budget, eta, noise):
    """``dpm_fast`` with noise, from its description: blocks equal in t = -log sigma, down to the
    ancestral level, then noise."""
    count = budget // 3 + 1
    orders = [3] * (count - 2) + [2, 1] if budget % 3 == 0 else [3] * (count - 1) + [budget % 3]
    end = -math.log(low)
    edges = [-math.log(high) + (end + math.log(high)) * k / count for k in range(count + 1)]

    def eps(x, t):
        return (x - denoise(x, math.exp(-t))) / math.exp(-t)

    for k, order in enumerate(orders):
        s, t = edges[k], edges[k + 1]
        a, b = math.exp(-s), math.exp(-t)
        up = min(b, eta * math.sqrt(b * b * (a * a - b * b) / (a * a)))
        to = min(end, -0.5 * math.log(b * b - up * up)) if up < b else end
        h, e = to - s, eps(x, s)
        sigma = math.exp(-to)
        if order == 1:
            y = x - sigma * math.expm1(h) * e
        elif order == 2:
            middle = s + 0.5 * h
            e1 = eps(x - math.exp(-middle) * math.expm1(0.5 * h) * e, middle)
            y = x - sigma * math.expm1(h) * e1
        else:
            t1, t2 = s + h / 3, s + 2 * h / 3
            e1 = eps(x - math.exp(-t1) * math.expm1(h / 3) * e, t1)
            second = 2.0 * (math.expm1(2 * h / 3) / (2 * h / 3) - 1.0)
            e2 = eps(x - math.exp(-t2) * (math.expm1(2 * h / 3) * e + second * (e1 - e)), t2)
            y = x - sigma * (math.expm1(h) * e + 1.5 * (math.expm1(h) / h - 1.0) * (e2 - e))
        x = y + math.sqrt(max(b * b - sigma * sigma, 0.0)) * noise[k]
    return x


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("budget", [5, 6, 7])
def test_dpm_fast_with_noise_is_k_diffusions(budget, eta):
    schedule = EDM(0.05, 20.0)
    plan = fewstep.plan("dpm_fast", schedule, nfe=budget, grid="lam", final="sigma_min", eta=eta)
    noise = [
        torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(k + 2))
        for k in range(plan.steps)
    ]
    wanted = k_diffusion_fast(
        lambda x, sigma: x - sigma * model_eps(schedule, x, sigma),
        start(plan),
        20.0,
        0.05,
        budget,
        eta,
        noise,
    )
    # the last block ends at the lowest level: nothing to add
    assert len(plan.draws) == (plan.steps - 1 if eta else 0)
    torch.testing.assert_close(sampled(plan, schedule), wanted, rtol=1e-11, atol=1e-11)


def model_eps(schedule, x, sigma):
    """``E[eps | x]`` at alpha = 1 from the mixture's data prediction."""
    node = schedule.node_at_rho(sigma)
    v = model(schedule)(x, node.t)
    r = 1.0 + sigma * sigma
    return (sigma * x + v) / r


# the analytic first step


AFS_PATHS = (VP, VPCosine(), SubVP(), VE(0.01, 50.0), EDM(0.002, 80.0), Flow(3.0), Trig())
AFS_SAMPLERS = (
    "ddim",
    "heun",
    "unipc",
    "deis",
    "dpmpp_3s",
    "euler_ancestral",
    "ghvb",
    "etdrk4",
    "flow_rk4",
    "exponential_adams",
)


@pytest.mark.parametrize("name", AFS_SAMPLERS)
def test_afs_changes_nothing_for_normal_data(name):
    """For N(0, I) data the replaced prediction is the network's: the same samples with one call
    fewer."""
    for schedule in AFS_PATHS:
        if get(name).on == ("flow",) and schedule.t_zero == -math.inf:
            continue
        for steps in (2, 5):
            whole, saved = (fewstep.plan(name, schedule, steps=steps, afs=a) for a in (False, True))
            assert saved.nfe == whole.nfe - 1
            assert Plan.from_json(saved.to_json()) == saved
            torch.testing.assert_close(
                sampled(saved, schedule, standard=True),
                sampled(whole, schedule, standard=True),
                rtol=1e-10,
                atol=1e-10,
            )


def test_afs_is_an_option_of_every_plan():
    for name in names("plan"):
        schedule = Flow() if get(name).on[0] == "flow" else VP
        whole, saved = (fewstep.plan(name, schedule, steps=4, afs=a) for a in (False, True))
        assert saved.nfe == whole.nfe - 1, name
        assert len(saved.code) == len(whole.code) + len(whole.evaluations[0].outs) - 1
        assert saved.name == name
        assert fewstep.plan(name, schedule, steps=4, afs="prior") is saved
        assert fewstep.samplers.describe(name)["options"]["afs"] is False


def test_afs_is_no_straight_line_and_says_so():
    """The first prediction lacks the sample's part of the signal: the type check finds that,
    relative to the noise that is left."""
    assert fewstep.plan("ddim", VP, steps=5).defect < 1e-12
    for schedule, steps in ((EDM(0.002, 1.0), 3), (EDM(0.002, 80.0), 3), (EDM(0.002, 80.0), 20)):
        plan = fewstep.plan("ddim", schedule, steps=steps, afs=True)
        s, t = plan.nodes[:2]
        e = t.sigma / s.sigma
        missing = (1.0 - e) * (1.0 - 1.0 / (1.0 + s.sigma**2))
        assert plan.exactness == "asymptotic"
        assert plan.defect == pytest.approx(missing / max(1.0, t.sigma), rel=1e-9)


def test_afs_counts_in_a_budget():
    for name in ("ddim", "heun", "dpm_solver_3", "dpm_fast", "pndm", "unipc"):
        for budget in (10, 13):
            whole = fewstep.plan(name, VP, nfe=budget + 1)
            assert fewstep.plan(name, VP, nfe=budget, afs=True).nfe == whole.nfe - 1
    assert fewstep.plan("ddim", VP, nfe=1, afs=True).steps == 2
    with pytest.raises(SamplerError, match="etdrk4 cannot do one step with nfe=2"):
        fewstep.plan("etdrk4", VP, nfe=2, afs=True)


@pytest.mark.parametrize(
    ("rule", "slope"),
    [
        ("prior", lambda s: s / (1 + s * s)),
        ("unit", lambda s: 1 / math.sqrt(1 + s * s)),
        ("zero", lambda s: 1 / s),
    ],
)
def test_afs_rules(rule, slope):
    """Euler on EDM: ``unit`` is the slope of diff-sampler, ``x / sqrt(1 + sigma^2)``."""
    plan = fewstep.plan("euler", EDM(0.5, 3.0), sigmas=(3.0, 2.0, 0.5), afs=rule)
    state = next(e.state for e in plan.evaluations)
    x = torch.tensor([[1.7, -0.4]], dtype=torch.float64)
    seen = []

    class Watching(Still):
        def raws(self, x_in, t, cond=None):
            seen.append(x_in.clone())
            return (x_in,)

    fewstep.run(plan, Watching(EDM(0.5, 3.0)), x)
    assert state > 0
    torch.testing.assert_close(seen[0], x + (2.0 - 3.0) * slope(3.0) * x, rtol=1e-14, atol=0.0)


class Still:
    """An eps network, without scaling."""

    prediction, shape = "eps", (2,)

    def __init__(self, schedule):
        self.schedule = schedule

    def input_scale(self, t):
        return 1.0

    def coefficients(self, t):
        return 0.0, (1.0,)


@pytest.mark.parametrize("rule", ["prior", "unit", "zero"])
def test_afs_rules_agree_at_pure_noise(rule):
    """At alpha = 0 every rule says x0 = 0, and a velocity sampler takes eps - x0 = x."""
    for name in ("ddim", "unipc", "flow_heun"):
        plan, other = (
            fewstep.plan(name, Flow(), steps=5, grid="uniform", afs=r) for r in (rule, "prior")
        )
        assert plan.start.alpha == 0.0
        torch.testing.assert_close(
            sampled(plan, Flow()), sampled(other, Flow()), rtol=1e-13, atol=1e-13
        )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ddim", {"steps": 1, "afs": True}, "replaces the only network call"),
        ("ddim", {"steps": 4, "afs": "gauss"}, "afs"),
        ("ddim", {"steps": 4, "afs": 3}, "prior"),
        ("ddim", {"steps": 4, "asf": True}, "did you mean 'afs'"),
    ],
)
def test_bad_afs_is_named(name, options, message):
    with pytest.raises(SamplerError, match=message):
        fewstep.plan(name, VP, **options)


def test_a_driver_has_no_first_step_to_spare():
    drivers = names("driver")
    if drivers:
        with pytest.raises(SamplerError, match="afs"):
            make_options(get(drivers[0]), {"afs": True})

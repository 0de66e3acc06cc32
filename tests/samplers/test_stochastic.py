"""Stochastic samplers: identities between them, laws of their samples, weak orders beyond the
certificates, and the noise scales."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from mpmath import mp, mpf

import fewstep
from fewstep.eval.certificates.gaussian import MEAN, STD, last_state, weak_errors
from fewstep.eval.certificates.problem import MEANS, STDS, WEIGHTS, smooth_grid
from fewstep.plans import PlanBuilder, run_plan
from fewstep.plans.walk import jumps, local_defects, walked_order
from fewstep.plans.weights.exponential import weights
from fewstep.plans.weights.noise_scale import NOISE_SCALES, noise_scale_weights, power
from fewstep.samplers import SamplerError, build, get, make_options
from fewstep.samplers.multistep.recurrence import Step, multistep
from fewstep.samplers.multistep.weight_rules import Interpolation
from fewstep.samplers.singlestep.seeds import SEEDS2, exponential_sde
from fewstep.schedules import EDM, DiscreteVP, Flow, Grid, Node, VPLinear, grid

VP = VPLinear()


@cache
def mixture(schedule):
    means = torch.tensor([[1.0, -0.5], [-0.8, 0.6], [0.2, 1.1]], dtype=torch.float64)
    stds = torch.tensor([0.3, 0.4, 0.2], dtype=torch.float64)
    return fewstep.models.GaussianMixture(
        means, stds, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), schedule, "v"
    )


def path(steps=7, final="zero", schedule=VP):
    return grid("lam", schedule, steps, final=final)


def plan(name, where=None, **options):
    return build(name, where or path(), make_options(get(name), options))


def outcome(made, schedule=VP):
    """The result from a fixed state with fixed noises, drawn by key."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(6, 2, dtype=torch.float64, generator=generator) * made.start.sigma
    noise = [torch.randn(6, 2, dtype=torch.float64, generator=generator) for _ in made.draws]
    return run_plan(made, mixture(schedule), x, noise=noise)


def assert_same(a, b):
    assert len(a.draws) == len(b.draws)
    torch.testing.assert_close(outcome(a), outcome(b), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("sa_solver", {"predictor_order": 1, "corrector_order": 0}), ("ddim", {"eta": 1.0})),
        (
            ("sa_solver", {"predictor_order": 2, "corrector_order": 0, "tau": 0.0}),
            ("dpmpp_2m", {"correction": "taylor"}),
        ),
        (
            ("sa_solver", {"predictor_order": 3, "corrector_order": 0, "tau": 0.0}),
            ("dpmpp_3m", {"correction": "taylor"}),
        ),
        (
            ("sa_solver", {"corrector_order": 0, "end_noise": True}),
            ("dpmpp_2m_sde", {"correction": "heun"}),
        ),
        (
            ("sa_solver", {"corrector_order": 0, "kind": "eps"}),
            ("sde_dpm_solver_2m", {"correction": "taylor"}),
        ),
        (("sa_solver", {"predictor_order": 3, "corrector_order": 0}), ("dpmpp_3m_sde", {})),
        (("seeds_2", {}), ("dpmpp_sde", {})),
        (("seeds_2", {"r1": 0.3}), ("dpmpp_sde", {"r": 0.3})),
        (("seeds_2", {"tau": 0.0}), ("dpmpp_2s", {})),
        (
            ("seeds_2", {"tau": 0.0, "correction": "taylor", "kind": "eps"}),
            ("dpm_solver_2", {"correction": "taylor"}),
        ),
        (("seeds_3", {"tau": 0.0}), ("dpmpp_3s", {})),
        (("seeds_3", {"tau": 0.0, "correction": "taylor"}), ("dpmpp_3s", {"correction": "taylor"})),
        (("seeds_3", {"tau": 0.0, "kind": "eps"}), ("dpm_solver_3", {})),
        (("dpm2_ancestral", {"eta": 0.0}), ("dpm2", {})),
        (("dpmpp_2s_ancestral", {"eta": 0.0}), ("dpmpp_2s", {})),
        (("dpmpp_sde", {"eta": 0.0}), ("dpmpp_2s", {})),
        (("dpmpp_3m_sde", {"eta": 0.0}), ("dpmpp_3m", {"correction": "taylor"})),
        (("dpmpp_3m_sde_compat", {"eta": 0.0}), ("dpmpp_3m_compat", {"correction": "taylor"})),
        (("sde_dpm_solver_1", {"tau": 0.0}), ("dpm_solver_1", {})),
        (("sde_dpm_solver_2m", {"tau": 0.0}), ("dpm_solver_2m", {})),
        (("er_sde", {"order": 1, "diffusion": "sde"}), ("ddim", {"eta": 1.0})),
        (("er_sde", {"order": 1, "diffusion": "ode"}), ("ddim", {})),
    ],
)
def test_one_method_is_another(one, other):
    assert_same(plan(one[0], **one[1]), plan(other[0], **other[1]))


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(
    ("noise", "tau"),
    [("ode", 0.0), ("sde", 1.0), ("sde_2", math.sqrt(0.5)), ("sde_3", math.sqrt(1.5))],
)
def test_er_sde_with_a_power_is_the_multistep_in_rho(order, noise, tau):
    step = Step(Interpolation(variable="rho", tau=tau), order)
    where = path(final="sigma_min")
    made = multistep(PlanBuilder(where.nodes, "signal"), where, step, lower_order_final=False)
    assert_same(plan("er_sde", where, order=order, diffusion=noise), made)


def test_seeds_with_one_stage_is_ddim_with_eta_one():
    where = path()
    one = exponential_sde(PlanBuilder(where.nodes, "signal"), where, (), SEEDS2())
    assert_same(one, plan("ddim", eta=1.0))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_sa_solver_without_noise_is_unip_and_unic(order):
    """With exact moments in place of UniPC's B(h), which matter where two nodes meet."""
    made = plan("sa_solver", predictor_order=order, corrector_order=order + 1, tau=0.0)
    unipc = plan("unipc", order=order)
    assert made.nfe == unipc.nfe and [e.node for e in made.evaluations] == [
        e.node for e in unipc.evaluations
    ]
    x, history, used = torch.full((1, 2), 0.4, dtype=torch.float64), [], 0
    wanted, last = x, (x, path()[0])
    for i, (s, t) in enumerate(path().pairs()):  # the textbook, value by value
        m = mixture(VP)(wanted, s.t)
        a, b = fewstep.schedules.kinds.convert("v", "x0", s)
        D = a * wanted + b * m
        if i:
            w = weights(last[1], s, [s, *(n for n, _ in history[:used])], "x0")
            wanted = w.carry * last[0] + sum(
                c * v for c, v in zip(w.values, [D, *(v for _, v in history[:used])], strict=True)
            )
        history = [(s, D), *history[: order - 1]]
        used = min(order, len(history), path().steps - i)
        w = weights(s, t, [n for n, _ in history[:used]], "x0")
        last = (wanted, s)
        wanted = w.carry * wanted + sum(
            c * v for c, (_, v) in zip(w.values, history[:used], strict=True)
        )
    torch.testing.assert_close(run_plan(made, mixture(VP), x), wanted, rtol=1e-12, atol=1e-12)


def test_heun_of_k_diffusion_is_taylor():
    assert (
        plan("dpmpp_2m_sde", correction="heun")
        == plan("dpmpp_2m_sde", correction="taylor")
        != plan("dpmpp_2m_sde")
    )
    with pytest.raises(SamplerError, match="correction"):
        plan("dpmpp_2m_sde", correction="huen")


def test_noise_form_step_by_its_formula():
    """``(alpha_t/alpha_s) x - 2 sigma_t (e^h - 1) eps + sigma_t sqrt(e^{2h} - 1) z`` (arXiv
    2211.01095, app. B)."""
    where = path(3, "sigma_min")
    combine = plan("sde_dpm_solver_1", where).code[1]
    s, t = where[0], where[1]
    h = t.lam - s.lam
    wanted = [
        t.alpha / s.alpha,
        -2.0 * t.sigma * math.expm1(h),
        t.sigma * math.sqrt(math.expm1(2.0 * h)),
    ]
    assert [c for _, c in (*combine.terms, *combine.noise)] == pytest.approx(wanted, rel=1e-12)


def test_noise_form_defect_vanishes_with_the_step():
    """The noise norm of a state is off by O(h^2), the signal is exact."""
    defects = [plan("sde_dpm_solver_1", path(n, "sigma_min")).defect for n in (50, 100, 200)]
    assert defects[0] / defects[1] == pytest.approx(4.0, rel=0.2) and defects[1] / defects[
        2
    ] == pytest.approx(4.0, rel=0.1)


def test_sub_intervals_are_disjoint():
    for name, parts in (("seeds_2", 2), ("seeds_3", 3), ("dpmpp_sde", 2)):
        made = plan(name, path(4, "sigma_min"))
        assert len(made.draws) == 4 * parts
        assert all(a.end == b.start for a, b in zip(made.draws, made.draws[1:], strict=False)), name
    overlapping = plan("dpmpp_sde", path(4, "sigma_min"), noises="overlapping")
    assert all(
        a.start == b.start
        for a, b in zip(overlapping.draws[::2], overlapping.draws[1::2], strict=True)
    )


# the strength of SA-Solver


def test_strength_within_an_interval():
    made = plan("sa_solver", path(20), interval=(0.05, 1.0), clock="rho", tau=0.7)
    assert made.draws and all(0.05 <= d.start.rho <= 1.0 for d in made.draws)
    assert len(made.draws) == sum(0.05 <= n.rho <= 1.0 for n in path(20)[:-2] if n.sigma > 0.0)
    table = DiscreteVP.from_betas(np.linspace(1e-4, 0.02, 1000))
    by_time = fewstep.plan("sa_solver", table, steps=10, grid="leading", interval=(200, 800))
    assert by_time.draws and all(200 <= d.start.t <= 800 for d in by_time.draws)


def test_strength_per_step():
    assert plan("sa_solver", tau=(1.0,) * 7) == plan("sa_solver")
    made = plan("sa_solver", tau=(0, 0, 1, 0.5, 0, 0, 0))
    assert [d.start for d in made.draws] == [path()[2], path()[3]]
    with pytest.raises(ValueError, match="tau has 3 values for 7 steps"):
        plan("sa_solver", tau=(1.0, 0.0, 1.0))
    flow = fewstep.plan("sa_solver", Flow(), steps=4, grid="uniform", tau=(1.0, 1.0, 0.0, 0.0))
    assert [d.start.t for d in flow.draws] == [0.75], (
        "the first step, out of alpha = 0, puts in no noise"
    )


def test_last_step_is_quiet_unless_asked():
    where = path(5, "sigma_min")
    assert len(plan("sa_solver", where).draws) == 4
    assert len(plan("sa_solver", where, end_noise=True).draws) == 5


def test_pece_evaluates_twice():
    assert plan("sa_solver", mode="pece").nfe == 2 * 7 - 1
    assert plan("sa_solver", mode="pec").nfe == 7


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sa_solver", {"interval": (1.0, 0.5)}),
        ("sa_solver", {"interval": (1.0,)}),
        ("sa_solver", {"tau": -0.1}),
        ("sa_solver", {"tau": (0.0, math.nan)}),
        ("sa_solver", {"mode": "pc"}),
        ("sa_solver", {"corrector_order": 6}),
        ("er_sde", {"diffusion": "sde_6"}),
        ("er_sde", {"order": 4}),
        ("seeds_2", {"r1": 1.0}),
        ("seeds_3", {"correction": "linear"}),
        ("dpmpp_sde", {"noises": "independent"}),
        ("dpm2_ancestral", {"tau": -0.5}),
        ("sde_dpm_solver_2m", {"tau": -1.0}),
        ("dpmpp_3m_sde", {"lower_order_final": 1}),
    ],
)
def test_bad_options_are_refused(name, options):
    with pytest.raises(SamplerError, match=next(iter(options))):
        make_options(get(name), options)


# noise scales


def ve(rho):
    return Node(1.0, rho, rho)


PHI = {
    "sde_1": lambda r: r * (mp.exp(-1 / r) + 10),
    "sde_4": lambda r: r ** mpf("0.9") * mp.log(1 + 100 * r ** mpf("1.5")) / mp.log(10),
    "sde_5": lambda r: r * (mp.exp(r ** mpf("0.3")) + 10),
}


@pytest.mark.parametrize("name", sorted(PHI))
@pytest.mark.parametrize(
    "rhos", [(2.0, 1.3, 2.9, 4.5), (80.0, 40.0, 90.0), (0.02, 0.004, 0.07), (0.5, 0.499, 0.501)]
)
def test_weights_against_quadrature(name, rhos, monkeypatch):
    """``Phi_t int l_j d(-1/Phi)``, ``Phi_t / Phi_s`` and
    ``sqrt(rho_t^2 - rho_s^2 (Phi_t/Phi_s)^2)`` in 30 digits."""
    monkeypatch.setattr(mp, "dps", 30)
    phi = PHI[name]
    s, t, *older = rhos
    where = [s, *older]
    w = noise_scale_weights(ve(s), ve(t), [ve(r) for r in where], NOISE_SCALES[name])
    rs, rt = mpf(s), mpf(t)
    assert w.carry == pytest.approx(float(phi(rt) / phi(rs)), rel=1e-13)
    assert w.noise == pytest.approx(
        float(mp.sqrt(rt**2 - (rs * phi(rt) / phi(rs)) ** 2)), rel=1e-11
    )
    total = 1 - phi(rt) / phi(rs)
    assert sum(w.values) == pytest.approx(float(total), rel=1e-12)
    for j, own in enumerate(where):

        def integrand(r, j=j, own=own):
            basis = mp.fprod(
                (r - mpf(o)) / (mpf(own) - mpf(o)) for i, o in enumerate(where) if i != j
            )
            return basis * mp.diff(phi, r) / phi(r) ** 2

        assert w.values[j] == pytest.approx(
            float(phi(rt) * mp.quad(integrand, [rt, rs])), rel=1e-9, abs=1e-12
        )


@pytest.mark.parametrize("name", sorted(NOISE_SCALES))
def test_noise_scales_have_their_slopes(name):
    """``excess = d log G / d log rho`` and never negative: noise is put in, not taken out."""
    scale = NOISE_SCALES[name]
    u = np.linspace(math.log(1e-3), math.log(1e5), 400)
    slope = (scale.log_g(np.exp(u + 1e-5)) - scale.log_g(np.exp(u - 1e-5))) / 2e-5
    excess = scale.excess(np.exp(u))
    assert float(excess.min()) >= 0.0
    smooth = np.abs(u - math.log(1021.0)) > 0.05
    np.testing.assert_allclose(excess[smooth], slope[smooth], rtol=1e-5, atol=1e-7)
    assert (float(excess.max()) > 0.0) == scale.noisy


@pytest.mark.parametrize("noise", ["sde_5", "sde", "ode"])
def test_er_sde_compat_by_the_formula_of_the_authors(noise, monkeypatch):
    """``y <- r y + (1 - r) D + (Delta + Phi_t J0) d + (Delta^2/2 + Phi_t J1) d2``, J the integrals
    of (rho - rho_s)^k / Phi."""
    monkeypatch.setattr(mp, "dps", 25)
    phi = {"sde_5": PHI["sde_5"], "sde": lambda r: r**2, "ode": lambda r: r}[noise]
    rhos = (8.0, 5.0, 3.4, 2.0)
    where = Grid.from_nodes([EDM(0.002, 80.0).node_at_rho(r) for r in rhos], EDM(0.002, 80.0))
    last = [
        i for i in plan("er_sde_compat", where, diffusion=noise).code if getattr(i, "terms", ())
    ][-1]
    r2, r1, r0, rt = map(mpf, rhos)
    ratio, delta = phi(rt) / phi(r0), rt - r0
    j0 = mp.quad(lambda r: 1 / phi(r), [rt, r0])
    j1 = mp.quad(lambda r: (r - r0) / phi(r), [rt, r0])
    a, b = delta + phi(rt) * j0, delta**2 / 2 + phi(rt) * j1
    d = [1 / (r0 - r1), -1 / (r0 - r1), 0]
    older = [0, 1 / (r1 - r2), -1 / (r1 - r2)]
    d2 = [2 * (p - q) / (r0 - r2) for p, q in zip(d, older, strict=True)]
    wanted = [
        float((1 - ratio) * one + a * p + b * q) for one, p, q in zip((1, 0, 0), d, d2, strict=True)
    ]
    assert [c for _, c in last.terms] == pytest.approx([float(ratio), *wanted], rel=1e-9)


def test_a_step_to_zero_takes_the_newest_prediction():
    w = noise_scale_weights(ve(0.5), ve(0.0), [ve(0.5), ve(0.9)], NOISE_SCALES["sde_5"])
    assert (w.carry, w.values, w.noise) == (0.0, (1.0, 0.0), 0.0)


def test_noise_scales_refuse_what_has_no_meaning():
    for s, t in ((ve(0.5), ve(0.6)), (Node(0.0, 1.0), ve(0.6)), (ve(0.0), ve(0.0))):
        with pytest.raises(ValueError, match="toward data"):
            noise_scale_weights(s, t, [s], NOISE_SCALES["sde"])
    with pytest.raises(ValueError, match="allowed 1 <= p"):
        power(0.9)


# golden values of the specification: 1-D mixture, variance preserving, lam nodes, natural start-up


def golden_run(name, **options):
    lams = (-2.0, -1.3, -0.6, 0.1, 0.8, 1.6)
    where = Grid.from_nodes([VP.node_at_lam(v) for v in lams], VP)
    model = fewstep.models.GaussianMixture(
        torch.tensor(MEANS, dtype=torch.float64)[:, None], STDS, WEIGHTS, VP
    )
    x = where[0].sigma * torch.tensor([[-2.0], [0.3], [2.3]], dtype=torch.float64)
    made = plan(name, where, **options)
    return run_plan(made, model, x, noise=lambda key, like: torch.zeros_like(like))[:, 0].tolist()


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("er_sde", {}, (-1.569219759567, 0.446181062502, 2.030326784009)),
        (
            "sa_solver",
            {"corrector_order": 0, "tau": 0.0, "lower_order_final": False},
            (-1.828982609638, 0.491639673371, 2.412356473429),
        ),
    ],
)
def test_golden_values(name, options, wanted):
    assert golden_run(name, **options) == pytest.approx(wanted, abs=2e-12)


# weak orders


def smooth_plan(name, steps, **options):
    return plan(name, smooth_grid(VP, steps), **options)


def slope(errors):
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize(
    ("name", "options", "order"),
    [
        ("dpmpp_sde", {"eta": 0.5}, 2),
        ("dpmpp_sde", {"eta": 0.5, "noises": "overlapping"}, 1),
        (
            "sa_solver",
            {
                "interval": (0.3, 3.0),
                "clock": "rho",
                "corrector_order": 0,
                "lower_order_final": False,
            },
            2,
        ),
        ("sa_solver", {"predictor_order": 1, "corrector_order": 1, "lower_order_final": False}, 1),
        ("sa_solver", {"kind": "eps", "correction": "linear", "lower_order_final": False}, 2),
        ("er_sde", {"diffusion": "sde_5", "order": 2}, 2),
        ("dpm2_ancestral", {"eta": 0.8}, 2),
        ("seeds_2", {"kind": "eps", "tau": 0.5}, 2),
    ],
)
def test_weak_order(name, options, order):
    """Mean and variance on Gaussian data, propagated exactly."""
    errors = [max(weak_errors(smooth_plan(name, n, **options))) for n in (240, 480)]
    assert errors[1] > 1e-10
    assert abs(slope(errors) - order) < 0.15


@pytest.mark.parametrize(
    ("noise", "order"), [("sde_1", 3), ("sde_4", 3), ("sde_5", 3), ("sde_5", 2), ("sde_5", 1)]
)
def test_er_sde_walks_at_its_order_with_a_varying_strength(noise, order):
    """The deterministic part is of third order with three nodes, whatever the noise scale (the
    authors' difference formula gives two)."""
    options = make_options(get("er_sde"), {"diffusion": noise, "order": order})
    found = walked_order(
        lambda n: build("er_sde", smooth_grid(VP, n), options), kappa=options.decay, steps=(64, 128)
    )
    assert abs(found - order) < 0.2


def ancestral_euler(steps):
    """An Euler step to the lower level of a dpm2_ancestral step, then its jump."""
    where = smooth_grid(VP, steps)
    b = PlanBuilder(where.nodes, "signal")
    x = b.start(where[0])
    for s, t in where.pairs():
        low = Node(t.alpha, t.sigma * t.rho / s.rho)
        w = weights(s, low, [s], "x0")
        x = b.at(low, w.carry * x + w.values[0] * b.evaluate(x, s, "x0"))
        x = b.at(t, x + math.sqrt(t.sigma**2 - low.sigma**2) * b.noise(s, t))
    return b.finish(x)


def test_the_walk_passes_over_jumps():
    """Noise that is added to a state is exact: the walk sees the order of the steps between, not 0
    for the wrong kappa."""
    made = smooth_plan("dpm2_ancestral", 20)
    assert len(jumps(made)) == len(made.draws) == 20
    assert jumps(plan("ddim", eta=1.0)) == {}
    for eta in (0.5, 1.0):
        assert (
            abs(
                walked_order(lambda n, eta=eta: smooth_plan("dpmpp_2s_ancestral", n, eta=eta)) - 2.0
            )
            < 0.1
        )
    assert abs(walked_order(ancestral_euler) - 1.0) < 0.1


def test_the_walk_with_a_given_decay_is_that_of_a_constant():
    """A data-form step does not feel its state beyond its carry, so the particular solution behind
    the defects does not matter."""
    made = smooth_plan("dpmpp_2m_sde", 12)
    constant, given = (
        local_defects(made, 4, 2.0),
        local_defects(made, 4, lambda lam, end: 2.0 * (end - lam)),
    )
    np.testing.assert_allclose(given, constant, rtol=0.0, atol=1e-13)
    assert (
        float(np.abs(local_defects(made, 4, lambda lam, end: 1.9 * (end - lam)) - constant).max())
        > 1e-3
    )


def on_one_path(made):
    """Error of the variance when the draws are increments of one Brownian path in lam, each divided
    by its standard deviation."""
    law = last_state(made)
    ends = [(d.start.lam, d.end.lam) for d in made.draws]
    total = sum(c * c for c in law.noise)
    for i, (a, b) in enumerate(ends):
        for j in range(i):
            shared = min(b, ends[j][1]) - max(a, ends[j][0])
            if shared > 0.0:
                total += (
                    2.0
                    * law.noise[i]
                    * law.noise[j]
                    * shared
                    / math.sqrt((b - a) * (ends[j][1] - ends[j][0]))
                )
    start, end = made.start, made.end
    variance = law.gain**2 * ((start.alpha * STD) ** 2 + start.sigma**2) + total
    return abs(variance - (end.alpha * STD) ** 2 - end.sigma**2)


def test_overlapping_draws_of_one_path_have_weak_order_two():
    """k-diffusion's two overlapping increments are right on one Brownian path, and of weak order 1
    when they are unrelated."""
    options = {"noises": "overlapping"}
    unrelated = [max(weak_errors(smooth_plan("dpmpp_sde", n, **options))) for n in (80, 160)]
    one_path = [on_one_path(smooth_plan("dpmpp_sde", n, **options)) for n in (80, 160)]
    assert abs(slope(unrelated) - 1.0) < 0.1
    assert abs(slope(one_path) - 2.0) < 0.1
    disjoint = smooth_plan("dpmpp_sde", 80)
    assert on_one_path(disjoint) == pytest.approx(max(weak_errors(disjoint)), rel=1e-6)


def test_three_nodes_stay_at_weak_order_two():
    """The third node improves the deterministic part only: the error falls as h^2, with the
    constant of what two nodes leave out."""
    errors = [
        max(weak_errors(smooth_plan("dpmpp_3m_sde", n, lower_order_final=False)))
        for n in (480, 960)
    ]
    assert abs(slope(errors) - 2.0) < 0.1
    two = max(weak_errors(smooth_plan("dpmpp_2m_sde", 480, lower_order_final=False)))
    assert errors[0] < two


# laws of real samples

FAMILIES = [
    ("ddim", {"eta": 1.0}),
    ("euler_ancestral", {"eta": 0.5}),
    ("dpm2_ancestral", {}),
    ("dpmpp_2s_ancestral", {}),
    ("dpmpp_sde", {}),
    ("dpmpp_sde", {"noises": "overlapping"}),
    ("dpmpp_2m_sde", {}),
    ("dpmpp_3m_sde", {}),
    ("sde_dpm_solver_1", {}),
    ("sde_dpm_solver_2m", {}),
    ("sa_solver", {}),
    ("sa_solver", {"mode": "pece", "interval": (0.05, 1.0), "clock": "rho"}),
    ("er_sde", {}),
    ("seeds_2", {}),
    ("seeds_3", {}),
    ("seeds_2", {"kind": "eps"}),
]


#: 800 steps each
LONG = [
    ("ddim", {"eta": 1.0}),
    ("euler_ancestral", {"eta": 0.5}),
    ("dpmpp_sde", {"noises": "overlapping"}),
]
LAWS = [pytest.param(*case, marks=pytest.mark.slow) if case in LONG else case for case in FAMILIES]


@pytest.mark.parametrize(
    ("name", "options"),
    LAWS,
    ids=[name + "".join(f"-{v}" for v in o.values()) for name, o in FAMILIES],
)
def test_samples_have_the_law_of_the_data(name, options):
    """4096 samples of a Gaussian through the front door: mean and covariance within 3 standard
    errors."""
    mean, std = (
        torch.tensor([[0.7, -0.4]], dtype=torch.float64),
        torch.tensor([[0.5, 0.3]], dtype=torch.float64),
    )
    schedule = EDM(0.002, 80.0) if name.startswith("dpmpp") else VP
    model = fewstep.models.GaussianMixture(
        mean, std, [1.0], schedule, "x0" if name.startswith("dpmpp") else "eps"
    )
    n = 4096
    steps = 800 if (name, options) in LONG else 150 if name == "sde_dpm_solver_1" else 70
    x, info = fewstep.sample(
        model,
        name,
        steps=steps,
        grid="lam",
        n=n,
        seed=20,
        dtype=torch.float64,
        info=True,
        **options,
    )
    assert max(weak_errors(info.plan)) < 0.6 * STD**2 * math.sqrt(2.0 / n), (
        "the bias of the steps stays below the statistics"
    )
    off = (x.mean(0) - mean[0]) / (std[0] / math.sqrt(n))
    assert float(off.abs().max()) < 3.0
    cov = torch.cov(x.T)
    variance = std[0] ** 2
    error = torch.sqrt((torch.outer(variance, variance) + torch.diag(variance**2)) / n)
    assert float(((cov - torch.diag(variance)) / error).abs().max()) < 3.0


def test_the_problem_is_the_one_of_the_certificates():
    """``on_one_path`` leaves the mean out: it is exact for every method here, because x0 = mean is
    a straight orbit."""
    made = smooth_plan("dpmpp_sde", 10)
    law = last_state(made)
    assert law.offset + law.gain * made.start.alpha * MEAN == pytest.approx(
        made.end.alpha * MEAN, abs=1e-13
    )

"""What every registered sampler that is a plan must hold, whoever wrote it (drivers:
``test_drivers``)."""

import math
from functools import cache
from itertools import product

import pytest
import torch

import fewstep
from fewstep.eval.certificates.problem import Unguided
from fewstep.eval.solver.counting import Counting
from fewstep.plans import run_plan
from fewstep.samplers import SamplerError, build, get, make_options, names
from fewstep.schedules import EDM, VE, DiscreteVP, Flow, SubVP, Trig, VPCosine, VPLinear, grid
from fewstep.schedules.kinds import ConversionError

CASES = [(name, options) for name in names("plan") for options in ({}, *get(name).variants)]
IDS = [name + "".join(f"-{k}={v}" for k, v in options.items()) for name, options in CASES]
every_case = pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
every_sampler = pytest.mark.parametrize("name", names("plan"))
VARIANTS = [(case, label) for case, label in zip(CASES, IDS, strict=True) if case[1]]
every_variant = pytest.mark.parametrize(
    ("name", "options"), [case for case, _ in VARIANTS], ids=[label for _, label in VARIANTS]
)

BETAS = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]
SCHEDULES = {
    "vp": VPLinear(),
    "cosine": VPCosine(),
    "subvp": SubVP(),
    "discrete": DiscreteVP.from_betas(BETAS),
    "ve": VE(0.01, 50.0),
    "edm": EDM(0.002, 80.0),
    "flow": Flow(3.0),
    "trig": Trig(),
}


@cache
def mixture(schedule):
    means = torch.tensor([[1.0, -0.5], [-0.8, 0.6], [0.2, 1.1]], dtype=torch.float64)
    stds = torch.tensor([0.3, 0.4, 0.2], dtype=torch.float64)
    return Unguided(means, stds, torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), schedule, "v")


def zero_noise(key, like):
    return torch.zeros_like(like)


def runnable(name, schedule):
    """A velocity in t needs a finite end time."""
    return get(name).on != ("flow",) or schedule.t_zero != -math.inf


class Still:
    """Answers zero, as v: the cheapest network, for tests that only count."""

    prediction, shape = "v", (2,)
    channels = Unguided.channels

    def __init__(self, schedule):
        self.schedule = schedule

    def input_scale(self, t):
        return 1.0

    def coefficients(self, t, channel="main"):
        return 0.0, (1.0,)

    def raws(self, x_in, t, cond=None):
        return (torch.zeros_like(x_in),)


def home(name):
    return Flow() if get(name).on[0] == "flow" else VPLinear()


def runs_to_the_end(name, options, schedule, steps, final):
    """Finite, the right NFE, never a call at sigma = 0 unless asked for."""
    case = f"{name} {options} on {schedule!r}, {steps} steps to {final}"
    entry = get(name)
    path = grid("uniform" if get(name).on[0] == "flow" else "lam", schedule, steps, final=final)
    if (
        options.get("evaluate_end")
        and path[-1].sigma == 0.0
        and None in (path[-1].dalpha, path[-1].dsigma)
    ):
        with pytest.raises(ConversionError, match="a velocity needs d alpha/dt and d sigma/dt"):
            build(name, path, make_options(entry, options))
        return
    plan = build(name, path, make_options(entry, options))
    model = Counting(mixture(schedule))
    x = (
        torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        * schedule.prior_scale
    )
    out = run_plan(plan, model, x, noise=zero_noise)
    assert bool(torch.isfinite(out).all()), case
    assert plan.nfe == model.calls, case
    assert plan.end == plan.nodes[-1], case
    if not options.get("evaluate_end"):
        assert all(e.node.sigma > 0.0 for e in plan.evaluations), case


@every_sampler
def test_few_steps_from_either_end(name):
    """1, 2, 3 steps on every schedule, from alpha = 0 where it has one, to sigma_min and to sigma =
    0. VE has no t at sigma = 0."""
    for schedule in SCHEDULES.values():
        if runnable(name, schedule):
            for steps, final in product((1, 2, 3), ("zero", "sigma_min")):
                runs_to_the_end(name, {}, schedule, steps, final)


@every_variant
def test_few_steps_with_options(name, options):
    for schedule in (home(name), SCHEDULES["discrete"]):
        for steps, final in ((1, "zero"), (2, "zero"), (3, "zero"), (3, "sigma_min")):
            runs_to_the_end(name, options, schedule, steps, final)


@pytest.mark.slow
@every_case
def test_few_steps_with_every_option_everywhere(name, options):
    for schedule in SCHEDULES.values():
        if runnable(name, schedule):
            for steps, final in product((1, 2, 3, 5), ("zero", "sigma_min")):
                runs_to_the_end(name, options, schedule, steps, final)


@every_case
def test_nfe_is_predicted(name, options):
    schedule = home(name)
    for steps in (1, 2, 3, 5, 10, 50):
        plan = fewstep.plan(name, schedule, steps=steps, **options)
        model = Counting(Still(schedule))
        run_plan(plan, model, torch.zeros(1, 2, dtype=torch.float64), noise=zero_noise)
        assert plan.nfe == model.calls, f"{steps} steps"


@every_case
def test_a_budget_is_kept(name, options):
    least = fewstep.plan(name, home(name), steps=1, **options).nfe
    for budget in (1, 10) if name == "pndm" else (1, 2, 3, 4, 5, 7, 8, 10):
        if budget < least and get(name).fill is None:
            with pytest.raises(SamplerError, match=f"{name} cannot do one step with nfe={budget}"):
                fewstep.plan(name, home(name), nfe=budget, **options)
            continue
        plan = fewstep.plan(name, home(name), nfe=budget, **options)
        assert 1 <= plan.nfe <= budget, f"{plan.nfe} of {budget}"
        if get(name).fill is not None:
            assert plan.nfe == budget, (
                f"a method that fills must spend it all: {plan.nfe} of {budget}"
            )


@every_case
def test_a_constant_prediction_is_solved_exactly(name, options):
    """Where the network always answers the same x0, every straight orbit is exact: E and the sum of
    the weights are right."""
    schedule = home(name)

    class Point:
        shape = None
        prediction = "x0"

        def __init__(self):
            self.schedule = schedule

        def input_scale(self, t):
            return 1.0

        channels = Unguided.channels

        def coefficients(self, t, channel="main"):
            return 0.0, (1.0,)

        def raws(self, x_in, t, cond=None):
            return (torch.full_like(x_in, 0.7),)

    def law(steps):
        """Mean and standard deviation of the end, exactly: all is linear in the start noise and in
        each draw, one row each."""
        plan = fewstep.plan(
            name, schedule, steps=steps, grid="uniform", final="sigma_min", **options
        )
        count = len(plan.draws)
        # row 0: no noise, row 1: that of the start, row k + 2: draw k
        unit = torch.eye(count + 2, dtype=torch.float64)
        x = plan.start.alpha * 0.7 + plan.start.sigma * unit[:, 1:2]
        draws = [unit[:, k + 2 : k + 3].clone() for k in range(count)]
        # on the straight path sigma = 0 there, where an x0 network gives no velocity
        if options.get("evaluate_end"):
            with pytest.raises(ConversionError, match="says nothing about velocity"):
                run_plan(plan, Point(), x, noise=draws)
            return plan, plan.end.alpha * 0.7, plan.end.sigma
        out = run_plan(plan, Point(), x, noise=draws)[:, 0]
        return plan, float(out[0]), float((out[1:] - out[0]).norm())

    plan, mean, spread = law(6)
    # exact in the limit: both errors fall with the steps. EDICT asks with labels that are not its
    # states'
    if plan.exactness == "asymptotic" or plan.off_label:
        errors = []
        for steps in (24, 384):
            plan, mean, spread = law(steps)
            errors.append((abs(mean - plan.end.alpha * 0.7), abs(spread - plan.end.sigma)))
        assert all(
            fine < 0.4 * coarse + 1e-9 and fine < 0.1 for coarse, fine in zip(*errors, strict=True)
        ), errors
        return
    assert mean == pytest.approx(plan.end.alpha * 0.7, rel=1e-10, abs=1e-10)
    if plan.exactness == "exact":
        assert spread == pytest.approx(plan.end.sigma, rel=1e-9, abs=1e-10)
    else:
        assert spread == pytest.approx(plan.end.sigma, rel=1e-9) or plan.defect > 1e-12


@every_case
def test_consistency(name, options):
    plan = fewstep.plan(name, home(name), steps=8, **options)
    known = {"flow_sde": "signal" if options.get("form") == "euler" else "exact", "lcm": "exact"}
    known |= {"consistency": "signal" if options.get("floor") else "exact"}
    known |= {"exponential_adams": "exact"}  # asymptotic is for velocities off the straight path
    known |= {"skipped": "asymptotic" if options.get("kind") == "velocity" else "exact"}
    known |= {"dpm_solver_v3": "asymptotic" if "l" in options else "exact"}
    if name in known:
        assert plan.exactness == known[name]
        return
    noise_form = plan.stochastic and (
        options.get("kind") == "eps" or name.startswith("sde_dpm_solver")
    )
    # Euler-Maruyama and the like: only steps to 0 make states
    if get(name).allow == "asymptotic" and get(name).on[0] != "flow":
        assert plan.exactness == "asymptotic"
        return
    assert plan.exactness == (
        "signal" if options.get("variance") == "fixed_large" or noise_form else "exact"
    )
    assert bool(plan.off_label) == (name == "edict")


@every_sampler
def test_bits_do_not_depend_on_the_batch(name):
    schedule = home(name)
    model = mixture(schedule)
    whole = fewstep.sample(model, name, steps=4, n=64, seed=100)
    for count, first in ((1, 131), (7, 140)):
        part = fewstep.sample(model, name, steps=4, n=count, seed=first)
        assert torch.equal(part, whole[first - 100 : first - 100 + count])
    shuffled = fewstep.sample(model, name, steps=4, seeds=[131, 100, 163])
    assert torch.equal(shuffled, whole[[31, 0, 63]])


@every_sampler
def test_dtypes(name):
    """A bf16 state stays close to the float64 run: arithmetic is fp32 or better, only storage
    rounds."""
    model = mixture(home(name))
    # its equal-step weights reach 23 on six unequal steps, and multiply any rounding
    grid = "uniform" if name == "pndm" else "auto"
    exact = fewstep.sample(model, name, steps=6, n=4, grid=grid, dtype=torch.float64)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-3), (torch.bfloat16, 0.35)):
        out = fewstep.sample(model, name, steps=6, n=4, grid=grid, dtype=dtype)
        assert out.dtype == dtype
        error = float((out.double() - exact).abs().max())
        if name == "edict" and dtype == torch.bfloat16:  # its two copies part by what is rounded
            tolerance = 0.35 * float(exact.abs().max())
        assert error < tolerance, f"{dtype}: {error}"


@every_sampler
def test_start_in_the_middle(name):
    schedule = home(name)
    model = mixture(schedule)
    init = torch.tensor([[1.0, -0.5]], dtype=torch.float64).repeat(3, 1)
    for start in (0.4, 0.1):
        out, info = fewstep.sample(model, name, steps=4, init=init, start=start, seed=5, info=True)
        assert info.plan.start.t == pytest.approx(start)
        assert info.nfe == info.plan.nfe
        assert bool(torch.isfinite(out).all())
    assert float((out - init).norm(dim=1).max()) < 1.5, (
        "an image to image run from 0.1 stays near its image (from 0.4 it may leave)"
    )


@every_sampler
def test_it_is_described(name):
    entry = fewstep.samplers.describe(name)
    assert entry["source"]
    assert entry["summary"].endswith(".")
    # fresh noise that does not vanish: none
    assert entry["order"] >= (0 if math.isinf(get(name).tau_of(get(name).options())) else 1)


def test_ddim_with_eta_one_is_ddpm_and_euler_ancestral():
    a = fewstep.plan("ddim", VPLinear(), steps=7, eta=1.0)
    assert a == fewstep.plan("ddpm", VPLinear(), steps=7)
    assert a == fewstep.plan("euler_ancestral", VPLinear(), steps=7)


def test_presets_are_presets():
    assert fewstep.plan("lms", VPLinear(), steps=7, order=3) == fewstep.plan(
        "deis", VPLinear(), steps=7, variant="rhoab", order=3
    )
    assert fewstep.plan("dpm2", VPLinear(), steps=7) == fewstep.plan(
        "dpm_solver_2", VPLinear(), steps=7
    )
    no_corrector = {"steps": 7, "corrector": False}
    assert fewstep.plan("unipc", VPLinear(), **no_corrector) == fewstep.plan(
        "dpmpp_2m", VPLinear(), steps=7
    )
    assert fewstep.plan("unipc", VPLinear(), order=3, **no_corrector) == fewstep.plan(
        "dpmpp_3m", VPLinear(), steps=7
    )


def test_fill_spends_the_budget_in_blocks():
    for name, order in (("dpm_solver_3", 3), ("dpmpp_2s", 2)):
        for budget in range(1, 14):
            plan = fewstep.plan(name, VPLinear(), nfe=budget, grid="lam", final="sigma_min")
            assert plan.nfe == budget
            assert plan.steps == len(
                fewstep.samplers.singlestep.dpm_solver.fill_orders(order, budget)
            )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: fewstep.plan("dpmpp2m", s, steps=4), "did you mean 'dpmpp_2m'"),
        (lambda s: fewstep.plan("unipc", s, steps=4, ordr=3), "did you mean 'order'"),
        (lambda s: fewstep.plan("unipc", s, steps=4, order=7), "an integer from 1 to 4"),
        (lambda s: fewstep.plan("unipc", s, steps=4, variant="bh3"), "bh1"),
        (lambda s: fewstep.plan("unipc", s, steps=0), ">= 1"),
        (lambda s: fewstep.plan("unipc", s, steps=2.5), ">= 1"),
        (lambda s: fewstep.plan("unipc", s, nfe=0), ">= 1"),
        (lambda s: fewstep.plan("unipc", s, nfe=4, steps=4), "one of them"),
        (lambda s: fewstep.plan("unipc", s, steps=4, grid="karas"), "did you mean 'karras'"),
        (
            lambda s: fewstep.plan("ddpm", s, steps=4, variance="learned_range"),
            "must be .fixed_small. or",
        ),
        (lambda s: fewstep.plan("ddim", s, times=[0.2, 0.5, 0.1]), "fall strictly"),
        (lambda s: fewstep.plan("ddim", s, sigmas=[1e9, 1.0]), "outside|range|allowed"),
    ],
)
def test_bad_requests_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(VPLinear())


def test_aliases_resolve():
    schedule = EDM(0.002, 80.0)
    assert fewstep.plan("DPM++ 2M Karras", schedule, steps=5) == fewstep.plan(
        "dpmpp_2m", schedule, steps=5, grid="karras"
    )
    for name, alias in fewstep.samplers.ALIASES.items():
        assert alias.sampler in names(), name
        if get(alias.sampler).form == "driver":
            continue
        assert fewstep.plan(name, schedule, steps=4).nfe >= 1
    assert "sample_dpmpp_2m" in fewstep.samplers.find("dpmpp_2m")

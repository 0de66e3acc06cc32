"""Consistency, LCM and TCD sampling: exact in law with a consistency function, in the formulas of
the peers, without order otherwise."""

import math

import pytest
import torch

import fewstep
from fewstep.samplers import build, get, make_options
from fewstep.schedules import EDM, DiscreteVP, Flow, Trig, VPLinear, grid

COUNT = 4096
MEAN, STD = 0.7, 0.5
TABLE = DiscreteVP.from_betas(
    [
        (math.sqrt(0.00085) + i / 999 * (math.sqrt(0.012) - math.sqrt(0.00085))) ** 2
        for i in range(1000)
    ]
)


class Orbit:
    """The consistency function of Gaussian data: the end of the probability-flow orbit through x,
    at noise-to-signal ratio ``floor``."""

    prediction, shape = "x0", (1,)

    def __init__(self, schedule, floor=0.0):
        self.schedule, self.floor = schedule, floor

    def input_scale(self, t):
        return 1.0

    def coefficients(self, t):
        return 0.0, (1.0,)

    def raws(self, x_in, t, cond=None):
        node = self.schedule.node(float(t))
        width = math.hypot(node.alpha * STD, node.sigma)
        return (MEAN + math.hypot(STD, self.floor) / width * (x_in - node.alpha * MEAN),)


def start(plan, seed=0):
    z = torch.randn(2, COUNT, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return plan.start.alpha * (MEAN + STD * z[0]) + plan.start.sigma * z[1]


def check_law(out, mean, variance):
    assert abs(float(out.mean()) - mean) < 3.0 * math.sqrt(variance / COUNT)
    assert abs(float(out.var()) - variance) < 3.0 * variance * math.sqrt(2.0 / COUNT)


@pytest.mark.parametrize("schedule", [VPLinear(), Flow(), EDM(), TABLE, Trig()])
@pytest.mark.parametrize("name", ["consistency", "lcm"])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_consistency_function_makes_the_exact_law(name, schedule, steps):
    for final in ("zero", "sigma_min"):
        plan = fewstep.plan(name, schedule, steps=steps, grid="uniform", final=final)
        assert plan.nfe == steps
        assert plan.exactness == "exact"
        out = fewstep.run(plan, Orbit(schedule), start(plan), seeds=range(COUNT))
        check_law(out, plan.end.alpha * MEAN, (plan.end.alpha * STD) ** 2 + plan.end.sigma**2)


def test_a_consistency_model_that_ends_at_sigma_min():
    """Its output is a state at sigma_min: with ``floor`` the law there is exact, without it the
    steps are too noisy."""
    schedule, floor = EDM(0.5, 80.0), 0.5
    errors = {}
    for given in (floor, 0.0):
        plan = fewstep.plan("consistency", schedule, sigmas=[80.0, 2.0, 1.0, 0.6, 0.0], floor=given)
        x = start(plan)
        out = fewstep.run(plan, Orbit(schedule, floor), x, seeds=range(COUNT))
        errors[given] = abs(float(out.var()) / (STD**2 + floor**2) - 1.0)
    assert errors[floor] < 3.0 * math.sqrt(2.0 / COUNT) < errors[0.0]


def test_algorithm_1_of_consistency_models():
    schedule, floor = EDM(0.002, 80.0), 0.002
    plan = fewstep.plan("consistency", schedule, sigmas=[80.0, 24.4, 5.8, 0.0], floor=floor)
    f = Orbit(schedule, floor)
    z = torch.randn(3, 6, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = f.raws(80.0 * z[0], 80.0)[0]
    for sigma, noise in zip((24.4, 5.8), z[1:], strict=True):
        x = f.raws(x + math.sqrt(sigma**2 - floor**2) * noise, sigma)[0]
    torch.testing.assert_close(
        fewstep.run(plan, f, 80.0 * z[0], noise=list(z[1 : 1 + len(plan.draws)])),
        x,
        rtol=1e-12,
        atol=1e-12,
    )


def mixture(schedule):
    means = torch.tensor([[1.0, -0.5], [-0.8, 0.6]], dtype=torch.float64)
    return fewstep.models.GaussianMixture(means, 0.3, [0.6, 0.4], schedule, "eps")


def alphas(i):
    return TABLE.node(float(i)).alpha if i >= 0 else TABLE.node(0.0).alpha


def test_lcm_is_the_formula_of_diffusers():
    """Boundary scaling with s = 10 label, then alpha_p x0 + sigma_p z except after the last."""
    times = [999, 759, 499, 259]
    path = fewstep.grid(None, TABLE, times=[*map(float, times), -1.0])
    plan = build("lcm", path, make_options(get("lcm"), {"timestep_scaling": 10.0}))
    model = mixture(TABLE)
    z = torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x = z[0]
    for k, i in enumerate(times):
        a, s = alphas(i), math.sqrt(1.0 - alphas(i) ** 2)
        x0 = (x - s * model(x, float(i))) / a
        scaled = 10.0 * i
        data = 0.25 / (scaled**2 + 0.25) * x + scaled / math.sqrt(scaled**2 + 0.25) * x0
        x = data
        if k < 3:
            p = alphas(times[k + 1])
            x = p * data + math.sqrt(1.0 - p * p) * z[k + 1]
    torch.testing.assert_close(
        fewstep.run(plan, model, z[0], noise=list(z[1 : 1 + len(plan.draws)])),
        x,
        rtol=1e-9,
        atol=1e-9,
    )
    assert plan.exactness == "asymptotic"


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_tcd_is_the_formula_of_diffusers(gamma):
    """Down to floor((1 - gamma) p) by DDIM, then forward to p."""
    times = [999, 749, 499, 249]
    path = fewstep.grid(None, TABLE, times=[*map(float, times), -1.0])
    plan = build("tcd", path, make_options(get("tcd"), {"gamma": gamma}))
    model = mixture(TABLE)
    z = torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x = z[0]
    for k, i in enumerate(times):
        e = model(x, float(i))
        x0 = (x - math.sqrt(1.0 - alphas(i) ** 2) * e) / alphas(i)
        if k == 3:
            x = x0
            continue
        p = times[k + 1]
        low = math.floor((1.0 - gamma) * p)
        x = alphas(low) * x0 + math.sqrt(1.0 - alphas(low) ** 2) * e
        if gamma:
            x = (
                alphas(p) / alphas(low) * x
                + math.sqrt(1.0 - (alphas(p) / alphas(low)) ** 2) * z[k + 1]
            )
    torch.testing.assert_close(
        fewstep.run(plan, model, z[0], noise=list(z[1 : 1 + len(plan.draws)])),
        x,
        rtol=1e-9,
        atol=1e-9,
    )
    assert plan.exactness == "exact"


def test_the_ends_of_tcd():
    """gamma = 0 is DDIM, gamma = 1 is LCM where the path has t = 0."""
    path = grid("uniform", Flow(), 5)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = torch.tensor([[1.0, -0.5], [-0.8, 0.6]], dtype=torch.float64)
    model = fewstep.models.GaussianMixture(means, 0.3, [0.6, 0.4], Flow(), "velocity")
    for name, gamma in (("ddim", 0.0), ("lcm", 1.0)):
        ours = fewstep.run(
            fewstep.plan("tcd", Flow(), grid=path, gamma=gamma), model, x, seeds=range(4)
        )
        theirs = fewstep.run(fewstep.plan(name, Flow(), grid=path), model, x, seeds=range(4))
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_with_a_posterior_mean_there_is_no_order():
    """The variance error does not fall with the steps, and that is what is declared."""
    from fewstep.eval.certificates.gaussian import weak_errors
    from fewstep.eval.certificates.problem import smooth_grid

    for name in ("consistency", "lcm", "tcd"):
        entry = get(name)
        assert entry.order_of(entry.options()) == 0
        few, many = (
            max(weak_errors(build(name, smooth_grid(VPLinear(), n), entry.options())))
            for n in (80, 640)
        )
        assert few / many < 1.5
        assert many > 1e-3


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("tcd", {"gamma": 1.5}),
        ("tcd", {"gamma": -0.1}),
        ("consistency", {"floor": -1.0}),
        ("lcm", {"timestep_scaling": math.nan}),
    ],
)
def test_bad_options_are_refused(name, given):
    with pytest.raises(ValueError, match=next(iter(given))):
        fewstep.plan(name, VPLinear(), steps=2, **given)

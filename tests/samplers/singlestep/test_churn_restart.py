"""Churn and Restart: jumps to more noise that keep the marginal, on the nodes and with the calls
that the papers say."""

import math
from itertools import pairwise

import pytest
import torch

import fewstep
from fewstep.eval.certificates.gaussian import weak_errors
from fewstep.eval.certificates.problem import smooth_grid
from fewstep.models import GaussianMixture
from fewstep.plans.running.lowering import lower
from fewstep.samplers import build, get, make_options
from fewstep.samplers.singlestep.restart import PRESETS
from fewstep.schedules import EDM, VE, DiscreteVP, Flow, VPLinear, grid

COUNT = 4096
CHURNED = ("euler", "heun", "dpm2", "pfgmpp")


def gaussian(schedule, prediction="v"):
    means, stds = (
        torch.tensor([[0.7, -0.4]], dtype=torch.float64),
        torch.tensor([[0.5, 0.3]], dtype=torch.float64),
    )
    return fewstep.models.GaussianMixture(means, stds, [1.0], schedule, prediction)


def assert_law(out, end):
    """Mean and covariance of the exact Gaussian, within 3 standard errors."""
    mean = torch.tensor([0.7, -0.4], dtype=torch.float64) * end.alpha
    variance = (end.alpha * torch.tensor([0.5, 0.3], dtype=torch.float64)) ** 2 + end.sigma**2
    assert bool(((out.mean(0) - mean).abs() < 3.0 * torch.sqrt(variance / COUNT)).all())
    found = torch.cov(out.T)
    assert bool(
        ((found.diagonal() - variance).abs() < 3.0 * variance * math.sqrt(2.0 / COUNT)).all()
    )
    assert abs(float(found[0, 1])) < 3.0 * float(torch.sqrt(variance.prod() / COUNT))


@pytest.mark.parametrize("name", CHURNED)
def test_no_churn_is_the_plain_method(name):
    plain = fewstep.plan(name, EDM(), steps=6)
    assert not plain.stochastic
    assert plain == fewstep.plan(name, EDM(), steps=6, s_tmin=0.1, s_tmax=10.0, s_noise=1.1)


@pytest.mark.parametrize(
    "schedule",
    [EDM(), VPLinear(), Flow(), DiscreteVP.from_betas([1e-4 + 2e-5 * i for i in range(1000)])],
)
@pytest.mark.parametrize("name", ["euler", "heun", "dpm2"])
def test_every_step_begins_at_the_schedules_own_node(name, schedule):
    path = grid("lam", schedule, 8)
    plan = build(name, path, make_options(get(name), {"s_churn": 2.0}))
    assert plan.exactness == "exact"
    top = schedule.node(schedule.t_max)
    begins = [e.node for e in plan.evaluations][:: 1 if name == "euler" else 2]
    if path[0].alpha == 0.0:  # the way out of alpha = 0 is no step of the method
        calls = [e.node for e in plan.evaluations][1:]
        begins = [None, *calls[:: 1 if name == "euler" else 2]]
    for s, begin in zip(path.nodes[:-1], begins, strict=True):
        if begin is None:
            continue
        wanted = min(1.25 * s.rho, top.rho)
        assert begin.rho == pytest.approx(wanted, rel=1e-9)
        assert begin == (top if wanted == top.rho else schedule.node_at_rho(1.25 * s.rho))
    assert plan.nfe == fewstep.plan(name, schedule, grid=path).nfe


def test_the_jump_is_the_papers():
    """gamma = min(S/N, sqrt 2 - 1) inside of the limits; the noise that belongs to rho_hat^2 -
    rho^2, times s_noise; one draw a step."""
    path = grid("karras", EDM(), 10)
    options = {"s_churn": 40.0, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.003}
    plan = build("euler", path, make_options(get("euler"), options))
    assert plan.exactness == "signal"
    assert len(plan.draws) == 10
    jumps = {i.noise[0][0]: i for i in plan.code if getattr(i, "noise", ())}
    for k, s in enumerate(path.nodes[:-1]):
        inside = 0.05 <= s.rho <= 50.0
        assert (k in jumps) == inside
        if inside:
            high = math.sqrt(2.0) * s.rho
            assert jumps[k].node.rho == pytest.approx(high, rel=1e-12)
            assert jumps[k].noise[0][1] == pytest.approx(
                1.003 * math.sqrt(high**2 - s.rho**2), rel=1e-12
            )


@pytest.mark.parametrize("name", ["euler", "heun", "dpm2"])
def test_weak_order_of_churn(name):
    order = get(name).order_of(get(name).options())

    def error(n):
        return max(
            weak_errors(
                build(name, smooth_grid(VPLinear(), n), make_options(get(name), {"s_churn": 5.0}))
            )
        )

    assert abs(math.log2(error(160) / error(320)) - order) < 0.1


@pytest.mark.parametrize("schedule", [VPLinear(), VE(0.01, 50.0), Flow()])
@pytest.mark.parametrize(
    ("name", "options"),
    [("heun", {"s_churn": 8.0}), ("restart", {"intervals": ((6, 3, 0.1, 1.0),)})],
)
def test_the_law_at_the_end(name, options, schedule):
    plan = fewstep.plan(
        name, schedule, grid=grid("lam", schedule, 100, final="sigma_min"), **options
    )
    model = gaussian(schedule)
    first, last = plan.start, plan.end
    generator = torch.Generator().manual_seed(3)
    x0 = model.sample(COUNT, seed=1)
    x = first.alpha * x0 + first.sigma * torch.randn(
        COUNT, 2, generator=generator, dtype=torch.float64
    )
    assert_law(fewstep.run(plan, model, x, seeds=range(COUNT)), last)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"s_churn": -1.0}, "s_churn"),
        ({"s_tmin": 2.0, "s_tmax": 1.0}, "s_tmax"),
        ({"s_noise": math.inf}, "s_noise"),
        ({"s_tmax": math.nan}, "s_tmax"),
    ],
)
def test_bad_churn_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        fewstep.plan("heun", EDM(), steps=4, **given)


def test_nfe_of_restart_is_the_papers():
    assert fewstep.plan("restart", EDM(), grid="karras", steps=18).nfe == 2 * 18 - 1 + 2 * 2 * 2
    assert fewstep.plan("restart", EDM(), grid="karras", steps=36, preset="imagenet64").nfe == 203
    assert fewstep.plan("restart", EDM(), grid="karras", steps=18, preset="none") == fewstep.plan(
        "heun", EDM(), grid="karras", steps=18
    )


def test_restart_is_algorithm_1():
    """Written out on sigma: Heun, and at the node nearest to rho_min K times up and back down on
    Karras nodes."""
    schedule, intervals = EDM(), ((4, 2, 0.3, 2.0), (3, 1, 5.0, 12.0))
    path = grid("karras", schedule, 9)
    plan = fewstep.plan("restart", schedule, grid=path, intervals=intervals, s_noise=1.003)
    model = gaussian(schedule, "x0")
    z = torch.randn(8, 5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = 80.0 * z[0]
    draws = iter(z[1:])

    def heun(x, a, b):
        d = (x - model(x, a)) / a
        y = x + (b - a) * d
        return y if b == 0.0 else x + 0.5 * (b - a) * (d + (y - model(y, b)) / b)

    sigmas = [node.sigma for node in path]
    nearest = {
        min(range(1, 9), key=lambda i, low=iv[2]: abs(sigmas[i] - low)): iv for iv in intervals
    }
    y = x
    for i in range(9):
        y = heun(y, sigmas[i], sigmas[i + 1])
        if i + 1 in nearest:
            count, times, _, high = nearest[i + 1]
            low = sigmas[i + 1]
            back = [
                (high ** (1 / 7) + k / (count - 1) * (low ** (1 / 7) - high ** (1 / 7))) ** 7
                for k in range(count)
            ]
            for _ in range(times):
                y = y + 1.003 * math.sqrt(high**2 - low**2) * next(draws)
                for a, b in pairwise(back):
                    y = heun(y, a, b)
    out = fewstep.run(plan, model, x, noise=list(z[1 : 1 + len(plan.draws)]))
    assert len(plan.draws) == 3
    torch.testing.assert_close(out, y, rtol=1e-10, atol=1e-10)


def test_an_interval_without_a_node_below_it_is_left_out():
    assert fewstep.plan("restart", EDM(), steps=1).nfe == 1
    sparse = fewstep.plan("restart", EDM(), sigmas=[80.0, 5.0, 0.0])
    assert sparse == fewstep.plan("heun", EDM(), sigmas=[80.0, 5.0, 0.0])
    assert fewstep.plan("restart", EDM(), sigmas=[80.0, 0.2, 0.0]).nfe == 3 + 2 * 2 * 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"intervals": ((3, 2, 0.06),)}, "N_R, K, rho_min, rho_max"),
        ({"intervals": ((1, 2, 0.06, 0.3),)}, "N_R"),
        ({"intervals": ((3, 0, 0.06, 0.3),)}, "K=0"),
        ({"intervals": ((3, 2, 0.3, 0.06),)}, "rho_max"),
        ({"intervals": ((3, 2, 0.06, 1e3),)}, "outside"),
        ({"preset": "imagenet"}, "imagenet64"),
    ],
)
def test_bad_intervals_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        fewstep.plan("restart", EDM(), grid="karras", steps=18, **given)


def test_presets_lie_inside_of_edm():
    assert all(
        0.002 < low < high < 80.0 for intervals in PRESETS.values() for _, _, low, high in intervals
    )


# edits


def visits(level: float, shift: float, at: int, name: str = "restart") -> float:
    """What an edit of ``shift`` after call ``at`` changes at the end, for data N(0, 1) on EDM."""
    model = GaussianMixture([[0.0]], 1.0, [1.0], EDM(), "x0")
    options = {"preset": "none", "intervals": ((3, 3, 0.06, 0.3),)} if name == "restart" else {}

    def edit(step):
        return step.x_next + shift if step.index == at and shift else None

    x = torch.full((1, 1), level, dtype=torch.float64)
    return float(
        fewstep.sample(model, name, grid="karras", steps=18, x=x, callback=edit, **options)
    )


@pytest.mark.parametrize("name", ["restart", "heun"])
def test_an_edit_is_counted_once(name):
    """The flow of N(0, 1) from s to t is x sqrt((1 + t^2) / (1 + s^2)), and going up adds noise to
    the state as it is: an edit of 0.05 is shrunk by every way down that comes after it, and by
    nothing else, whether its level is visited again or not."""
    options = {"preset": "none", "intervals": ((3, 3, 0.06, 0.3),)} if name == "restart" else {}
    plan = fewstep.plan(name, EDM(), grid="karras", steps=18, **options)
    nodes = [*(e.node.sigma for e in plan.evaluations), 0.0]
    want = visits(80.0, 0.0, 0, name)
    for at in range(plan.nfe - 1):
        if nodes[at + 1] == nodes[min(at + 2, plan.nfe)]:
            continue  # the state at a Heun stage: the step is made again from its start
        falls = [(s, t) for s, t in zip(nodes[at + 1 :], nodes[at + 2 :], strict=False) if t < s]
        factor = math.prod(math.sqrt((1.0 + t * t) / (1.0 + s * s)) for s, t in falls)
        assert visits(80.0, 0.05, at, name) - want == pytest.approx(
            0.05 * factor, rel=0.1 if nodes[at + 1] > 1.0 else 0.02
        )


def test_an_edit_at_the_first_visit_is_not_added_at_the_later_ones():
    plan = fewstep.plan(
        "restart", EDM(), grid="karras", steps=18, preset="none", intervals=((3, 3, 0.06, 0.3),)
    )
    program = lower(plan, GaussianMixture([[0.0]], 1.0, [1.0], EDM(), "x0"))
    spans = [
        k - number for k, launch in enumerate(program.launches) for _, number, _ in launch.edits
    ]
    assert spans and set(spans) == {1}  # of a Heun stage, to the state that its step ends at

"""Plans as functions of their coefficients, times and labels, and gradients of runs by these."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from torch import Tensor, nn

import fewstep
from fewstep.checks import ArgumentError, ArgumentTypeError
from fewstep.engine.gradients import GradientError
from fewstep.models import GaussianMixture, wrap
from fewstep.plans import Plan, PlanError
from fewstep.plans.transforms.stencil import stencil
from fewstep.samplers import registry
from fewstep.schedules import EDM, VE, DiscreteVP, Flow, GridError, VPCosine, VPLinear

F64 = torch.float64
PLANS = [name for name in registry.names("plan") if not registry.get(name).guided]
WHAT = ("coefficients", "times", "labels")


def mixture(schedule, prediction="eps"):
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.3]], dtype=F64)
    weights, stds = torch.tensor([0.4, 0.6], dtype=F64), torch.tensor([0.3, 0.7], dtype=F64)
    return GaussianMixture(means, stds, weights, schedule, prediction=prediction)


def problem(name, steps=4):
    """A model that suits the sampler, and its plan."""
    flow = registry.get(name).on[0] == "flow"
    den = mixture(Flow(), "velocity") if flow else mixture(VPLinear())
    return den, fewstep.plan(name, den.schedule, steps=steps)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def loss(plan, den, x, theta, **more) -> Tensor:
    out = fewstep.run(plan, den, x, seeds=[1, 2, 3], plan_parameters=theta, **more)
    return (out * randn(*out.shape, seed=9).to(out)).sum()


def gradient(plan, den, x, what, at, **more) -> Tensor:
    theta = {what: at.clone().requires_grad_()}
    loss(plan, den, x, theta, **{"grad": "checkpoint", **more}).backward()
    return theta[what].grad


def slope(plan, den, x, what, at, direction, h=1e-3) -> float:
    """Derivative of the loss along ``direction`` by differences of fourth order."""
    place = [float(loss(plan, den, x, {what: at + k * h * direction})) for k in (-2, -1, 1, 2)]
    return (place[0] - 8 * place[1] + 8 * place[2] - place[3]) / (12 * h)


def direction_of(plan, den, what, at) -> Tensor:
    """A direction in which the parameters may move; labels at the ends of the path stay."""
    schedule = den.schedule
    if what == "coefficients":
        return 0.1 * randn(*at.shape, seed=2) * at.abs().clamp(min=1e-3)
    free = (at < schedule.t_max) & (at > schedule.t_min) if what == "labels" else at == at
    return 0.01 * randn(*at.shape, seed=2) * at.abs() * free


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_given_back_by_its_own_parameters(name):
    for steps in (2, 3, 5):
        _, plan = problem(name, steps)
        theta = plan.parameters(WHAT)
        assert plan.with_parameters({"times": theta["times"]}) == plan
        own = {what: theta[what] for what in ("coefficients", "labels")}
        assert plan.with_parameters(own) == plan
        assert plan.with_parameters(theta) == plan


@pytest.mark.parametrize("name", PLANS)
def test_moved_coefficients_keep_signal_and_noise(name):
    _, plan = problem(name, 5)
    at = plan.parameters()["coefficients"]
    moved = plan.with_parameters({"coefficients": at + 0.01 * randn(*at.shape)})
    assert moved.exactness == plan.exactness
    if plan.exactness == "exact":
        assert moved.defect <= 1e-12
    assert moved.with_parameters(moved.parameters()) == moved
    assert Plan.from_json(moved.to_json()) == moved


def test_coefficients_move_by_the_least_change():
    # a step of DPM-Solver++ 2M: (x, D, D before) have signals (a, 1, 1) and noises (s, 0, 0), so x
    # is fixed, and the excess of the two others is halved between them
    plan = fewstep.plan("dpmpp_2m", VPLinear(), steps=3)
    at = plan.parameters()["coefficients"]
    third = next(c for c in plan.code if len(getattr(c, "terms", ())) == 3)
    place = plan.coefficients.index(third.terms[0][1])
    moved = at.clone()
    moved[place : place + 3] += torch.tensor([0.0, 0.02, 0.0], dtype=F64)
    found = plan.with_parameters({"coefficients": moved}).parameters()["coefficients"] - at
    wanted = torch.zeros_like(at)
    wanted[place + 1], wanted[place + 2] = 0.01, -0.01
    assert torch.allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("name", PLANS)
def test_gradient_equals_differences_of_the_loss(name, what):
    den, plan = problem(name)
    x = randn(3, 2)
    at = plan.parameters(what)[what]
    if what == "coefficients":
        at = at + 1e-3 * randn(*at.shape, seed=1)  # off the exact ones: the move counts too
    found = gradient(plan, den, x, what, at)
    direction = direction_of(plan, den, what, at)
    along = float((found * direction).sum())
    # a plan of first order has no free coefficient: both are rounding then
    scale = max(float((found * direction).abs().max()), 1e-3)
    assert abs(along - slope(plan, den, x, what, at, direction)) < 1e-6 * scale


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("name", ["unipc", "dpmpp_2m", "heun", "dpmpp_2m_sde"])
@pytest.mark.parametrize(
    ("schedule", "prediction"),
    [(EDM(), "x0"), (VE(0.01, 50.0), "score"), (VPCosine(), "v"), (Flow(), "velocity")],
    ids=["edm", "ve", "cosine", "flow"],
)
def test_on_every_path(schedule, prediction, name, what):
    den = mixture(schedule, prediction)
    plan = fewstep.plan(name, schedule, steps=6)
    x = schedule.prior_scale * randn(3, 2)
    at = plan.parameters(what)[what]
    direction = direction_of(plan, den, what, at)
    wanted = slope(plan, den, x, what, at, direction)
    for dtype, tolerance in ((F64, 1e-6), (torch.float32, 1e-3)):
        found = gradient(plan, den, x.to(dtype), what, at)
        scale = float((found * direction).abs().max())
        assert abs(float((found * direction).sum()) - wanted) < tolerance * scale


class Net(nn.Module):
    """A network of a state, a time and a condition."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(0.5 * randn(2, 8, seed=3))
        self.last = nn.Parameter(0.5 * randn(8, 2, seed=4))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        return torch.tanh(x @ self.first + 0.3 * t[:, None] + cond) @ self.last


@pytest.mark.parametrize("grad", ["checkpoint", "truncated:2"])
def test_other_gradients_are_those_without_plan_parameters(grad):
    den = wrap(Net().double(), EDM(), "x0", "c_noise", precondition="edm", shape=(2,))
    plan = fewstep.plan("unipc", den.schedule, steps=5)
    found = []
    for theta in (None, {k: v.requires_grad_() for k, v in plan.parameters().items()}):
        x, cond = 80.0 * randn(3, 2), randn(3, 8, seed=5)
        wanted = [x.requires_grad_(), cond.requires_grad_(), *den.parameters()]
        total = loss(plan, den, x, theta, cond=cond, grad=grad)
        found.append(torch.autograd.grad(total, wanted, allow_unused=True))
    for a, b in zip(*found, strict=True):
        assert (a is None and b is None) or torch.allclose(a, b, rtol=1e-12, atol=1e-14)


def test_truncated_is_the_gradient_of_the_last_steps():
    den, plan = problem("dpmpp_2m", 5)
    x, at = randn(3, 2), plan.parameters()["coefficients"]
    whole, last = (
        gradient(plan, den, x, "coefficients", at, grad=grad)
        for grad in ("checkpoint", "truncated:2")
    )
    assert plan.structure[-3][2] == (6, 7, 5)  # a step of three terms, then one of D alone
    assert bool((last[:-4].abs() < 1e-15).all())
    assert float(whole[:-4].abs().max()) > 0.1
    assert torch.allclose(last[-4:], whole[-4:], rtol=1e-12, atol=1e-15)


def test_joint_gradient_of_times_and_labels():
    den, plan = problem("dpmpp_3m", 5)
    x, theta = randn(3, 2), plan.parameters(("times", "labels"))
    theta["labels"] = theta["labels"] * 0.99
    leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
    loss(plan, den, x, leaves, grad="checkpoint").backward()
    for name, value in theta.items():
        step = 1e-4 * value[2]
        places = []
        for sign in (-1, 1):
            moved = value.clone()
            moved[2] += sign * step
            places.append(float(loss(plan, den, x, {**theta, name: moved})))
        wanted = (places[1] - places[0]) / (2 * step)
        assert math.isclose(float(leaves[name].grad[2]), wanted, rel_tol=1e-5)


def fitted(plan, den, x, truth, leaf, parameters, rate):
    """``plan`` after 40 steps of Adam on the mean error; ``parameters(leaf)`` are the plan's."""
    optimiser = torch.optim.Adam([leaf.requires_grad_()], lr=rate)
    for _ in range(40):
        optimiser.zero_grad()
        theta = parameters(leaf)
        out = fewstep.run(plan, den, x, grad="checkpoint", plan_parameters=theta)
        (out - truth).abs().mean().backward()
        optimiser.step()
    return plan.with_parameters(parameters(leaf.detach()))


def test_fitting_coefficients_or_times_lowers_the_error():
    den = mixture(VPLinear())
    x = randn(64, 2)
    truth = fewstep.run(fewstep.plan("unipc", den.schedule, steps=200, grid="lam"), den, x)
    plan = fewstep.plan("unipc", den.schedule, steps=6, grid="lam")
    theta = plan.parameters(("coefficients", "times"))
    # log of the ratios of neighbouring times: any value gives times that fall
    ratios = torch.log(-torch.diff(theta["times"].log(), prepend=torch.zeros(1, dtype=F64)))
    plans = [
        plan,
        fitted(
            plan, den, x, truth, theta["coefficients"], lambda leaf: {"coefficients": leaf}, 0.05
        ),
        fitted(
            plan,
            den,
            x,
            truth,
            ratios,
            lambda leaf: {"times": torch.exp(-leaf.exp().cumsum(0))},
            0.02,
        ),
    ]
    assert all(p.exactness == "exact" for p in plans)
    errors = [float((fewstep.run(p, den, x) - truth).abs().mean()) for p in plans]
    assert errors[1] < 0.65 * errors[0]
    assert errors[2] < 0.9 * errors[0]


def test_sample_takes_them_and_reports_the_plan_that_ran():
    den = mixture(VPLinear())
    plan = fewstep.plan("dpmpp_2m_sde", den, steps=4)
    at = plan.parameters()["coefficients"]
    theta = {"coefficients": (at + 0.01 * randn(*at.shape)).requires_grad_()}
    x, info = fewstep.sample(
        den,
        "dpmpp_2m_sde",
        steps=4,
        n=2,
        dtype=F64,
        plan_parameters=theta,
        info=True,
        grad="checkpoint",
    )
    assert x.requires_grad
    assert info.plan == plan.with_parameters(theta)
    assert info.plan != plan


def test_a_plan_with_its_recipe_can_be_pickled():
    plan = fewstep.plan("unipc", VPLinear(), steps=4, afs=True, order=2)
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan
    theta = {"times": plan.parameters("times")["times"] * 0.98}
    assert again.with_parameters(theta) == plan.with_parameters(theta)
    assert len(again.with_parameters(theta).parameters("times")["times"]) == 3


def test_stencil_is_of_fourth_order_inside_and_at_the_ends():
    for at in (0.0, 0.05, 1.0, 1.95, 2.0):
        places = stencil(at, 0.1, 0.0, 2.0)
        assert all(-1e-12 <= place <= 2.0 + 1e-12 for place, _ in places)
        for power in range(5):
            found = sum(w * place**power for place, w in places)
            wanted = power * at ** (power - 1) if power else 0.0
            assert math.isclose(found, wanted, rel_tol=1e-10, abs_tol=1e-11)
        assert abs(sum(w * place**5 for place, w in places) - 5 * at**4) > 1e-6


class Counted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return x * t[:, None].to(x)


def table_model(rounded: bool):
    schedule = DiscreteVP.from_betas(torch.linspace(1e-4, 2e-2, 1000, dtype=F64))
    net = Counted()
    time = (lambda t: t.round()) if rounded else "t"
    return net, wrap(net, schedule, "eps", time, shape=(2,))


@pytest.mark.parametrize(
    ("theta", "error", "text"),
    [
        ({"coeficients": torch.zeros(3)}, ArgumentError, "coefficients"),
        ({"coefficients": torch.zeros(3)}, ArgumentError, "has shape"),
        ({"times": [0.5]}, ArgumentTypeError, "floating-point tensor"),
        ({}, ArgumentTypeError, "mapping"),
        (torch.zeros(3), ArgumentTypeError, "mapping"),
        ({"times": torch.tensor([0.2, 0.4, 0.6], dtype=F64)}, GridError, "fall strictly"),
        ({"times": torch.tensor([0.9, math.nan, 0.6], dtype=F64)}, ArgumentError, "not finite"),
        ({"labels": torch.tensor([1.0, 0.5, 0.2, -3.0], dtype=F64)}, ArgumentError, "-3.0"),
    ],
)
def test_bad_parameters_are_refused_before_any_call(theta, error, text):
    net = Counted()
    den = wrap(net, VPLinear(), "eps", shape=(2,))
    plan = fewstep.plan("dpmpp_2m", den.schedule, steps=4)
    with pytest.raises(error, match=text):
        fewstep.run(plan, den, randn(2, 2), plan_parameters=theta)
    assert net.calls == 0


@pytest.mark.parametrize("grad", ["full", "checkpoint:sqrt", "adjoint", "reversible"])
def test_other_modes_are_refused(grad):
    den, plan = problem("dpmpp_2m")
    theta = {k: v.requires_grad_() for k, v in plan.parameters().items()}
    with pytest.raises(GradientError, match="checkpoint"):
        fewstep.run(plan, den, randn(2, 2), grad=grad, plan_parameters=theta)


def test_times_of_a_network_that_rounds_them_are_refused():
    net, den = table_model(rounded=False)
    plan = fewstep.plan("ddim", den.schedule, steps=4)
    theta = {"times": plan.parameters("times")["times"].requires_grad_()}
    fewstep.run(plan, den, randn(2, 2), grad="checkpoint", plan_parameters=theta).sum().backward()
    assert bool(theta["times"].grad.abs().sum() > 0)
    rounded = wrap(net, den.schedule, "eps", "index", shape=(2,))
    net.calls = 0
    with pytest.raises(GradientError, match="rounded index"):
        fewstep.run(plan, rounded, randn(2, 2), grad="checkpoint", plan_parameters=theta)
    assert net.calls == 0


def test_plans_without_a_recipe_have_coefficients_only():
    plan = fewstep.plan("ddim", VPLinear(), steps=4)
    read = Plan.from_json(plan.to_json())
    assert torch.equal(read.parameters()["coefficients"], plan.parameters()["coefficients"])
    for what in ("times", "labels"):
        with pytest.raises(PlanError, match="does not know its sampler"):
            read.parameters(what)
    with pytest.raises(PlanError, match="one step"):
        fewstep.plan("ddim", VPLinear(), steps=1).parameters("times")
    with pytest.raises(ArgumentError, match="times"):
        plan.parameters("time")
    moved = plan.with_parameters({"labels": plan.parameters("labels")["labels"] * 0.9})
    assert moved.off_label == (0, 1, 2, 3)
    assert moved.recipe is None


def test_a_driver_and_a_program_have_no_parameters():
    den, plan = problem("ddim")
    theta = plan.parameters()
    with pytest.raises(GradientError, match="driver"):
        fewstep.sample(den, "dpm_adaptive", n=1, plan_parameters=theta)
    from fewstep.plans import lower

    with pytest.raises(ArgumentError, match="Program"):
        fewstep.run(lower(plan, den), den, randn(2, 2), plan_parameters=theta)


def test_a_coefficient_that_cannot_be_made_exact_is_refused():
    plan = fewstep.plan("dpmpp_2m_sde", VPLinear(), steps=3)
    at = plan.parameters()["coefficients"]
    with pytest.raises(PlanError, match="no noise"):
        plan.with_parameters({"coefficients": torch.zeros_like(at)})

"""What a network is asked for: calls, rows, branches and derivatives, and what the sampler says
beforehand."""

from __future__ import annotations

import copy

import pytest
import torch
from laws import normals

import fewstep
from fewstep.eval import Cost, Counting, ScoreError, count_evaluations
from fewstep.eval.certificates.problem import mixture
from fewstep.models import GaussianMixture, MeanReverted, wrap
from fewstep.models.denoiser import Denoiser, call
from fewstep.models.precision import own_dtype
from fewstep.schedules import EDM, Flow, MeanReverting, VPLinear

F64 = torch.float64


def labelled(schedule=None) -> GaussianMixture:
    return GaussianMixture(normals(0, 3, 2), 0.3, [0.3, 0.3, 0.4], schedule or VPLinear(), "eps")


class Guided:
    """A wrapper as guidance makes them: what it asks of ``inner`` is ``ask(inner, x_in, t, cond)``,
    one value of its kind."""

    def __init__(self, inner, ask) -> None:
        self.inner, self.ask, self.schedule, self.prediction, self.shape = (
            inner,
            ask,
            inner.schedule,
            inner.prediction,
            inner.shape,
        )

    def raws(self, x_in, t, cond=None):
        return (self.ask(self.inner, x_in, t, cond),)

    def coefficients(self, t):
        return 0.0, (1.0,)

    def input_scale(self, t):
        return 1.0

    def __call__(self, x, t, cond=None):
        return call(self, x, t, cond)


def two_calls(inner, x, t, cond):
    return 3.0 * inner(x, t, cond) - 2.0 * inner(x, t)


def one_batch(inner, x, t, cond):
    both = inner(torch.cat([x, x]), t, torch.cat([cond, torch.full_like(cond, -1)]))
    a, b = both.chunk(2)
    return 3.0 * a - 2.0 * b


def by_gradient(inner, x, t, cond):
    """A step along the gradient of something that the prediction is, as DPS takes."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        eps = inner(x, t, cond)
        (g,) = torch.autograd.grad(eps.square().sum(), x)
    return eps.detach() + 0.01 * g


def by_tangent(inner, x, t, cond):
    eps, slope = torch.func.jvp(lambda v: inner(v, t, cond), (x,), (x,))
    return eps - 0.01 * slope


@pytest.mark.parametrize(
    ("sampler", "options"),
    [("ddim", {}), ("heun", {}), ("unipc", {"order": 3}), ("ddpm", {}), ("dpmpp_sde", {})],
)
def test_plain_sampling_costs_what_the_plan_says(sampler, options):
    found = count_evaluations(mixture(VPLinear()), sampler, steps=6, n=5, **options)
    plan = fewstep.plan(sampler, VPLinear(), steps=6, **options)
    assert found.planned == found.nfe == found.calls == plan.nfe
    assert found.evaluations == found.equivalents == plan.nfe and found.branches == 1.0
    assert found.cost == Cost(
        plan.nfe, 5 * plan.nfe, unconditional_calls=plan.nfe, unconditional_rows=5 * plan.nfe
    )


def test_a_driver_counts_for_itself():
    found = count_evaluations(mixture(Flow(), "velocity"), "ode45", n=2)
    assert found.planned is None and found.nfe == found.calls > 20


def test_guidance_costs_two_evaluations_in_one_call_or_two():
    labels, model = torch.tensor([0, 1, 2, 0]), labelled()
    two = count_evaluations(
        model, "ddim", guide=lambda den: Guided(den, two_calls), steps=7, n=4, cond=labels
    )
    one = count_evaluations(
        model, "ddim", guide=lambda den: Guided(den, one_batch), steps=7, n=4, cond=labels
    )
    assert two.nfe == one.nfe == two.planned == 7
    assert (two.calls, one.calls) == (14, 7)
    assert two.evaluations == one.evaluations == 14.0 and two.branches == one.branches == 2.0
    assert (two.cost.unconditional_calls, two.cost.unconditional_rows) == (7, 28)
    # the null labels are the wrapper's own matter
    assert (one.cost.unconditional_calls, one.cost.unconditional_rows) == (0, 0)


def test_derivatives_are_counted_apart_and_priced():
    labels, model = torch.tensor([0, 1, 2]), labelled()
    back = count_evaluations(
        model, "ddim", guide=lambda den: Guided(den, by_gradient), steps=4, n=3, cond=labels
    )
    assert back.cost == Cost(4, 12, vjps=4, vjp_rows=12)
    assert back.evaluations == 4.0 and back.equivalents == 4.0 + 2.0 * 4.0
    along = count_evaluations(
        model,
        "ddim",
        guide=lambda den: Guided(den, by_tangent),
        steps=4,
        n=3,
        cond=labels,
        jvp_weight=0.5,
    )
    assert along.cost == Cost(4, 12, jvps=4, jvp_rows=12)
    assert along.equivalents == 4.0 + 0.5 * 4.0


def test_counting_changes_no_bit():
    labels, model = torch.tensor([0, 1, 2]), labelled()
    for ask in (two_calls, one_batch, by_gradient, by_tangent):
        plain = fewstep.sample(Guided(model, ask), "ddim", steps=3, n=3, cond=labels, dtype=F64)
        counted = fewstep.sample(
            Guided(Counting(model), ask), "ddim", steps=3, n=3, cond=labels, dtype=F64
        )
        assert torch.equal(plain, counted)


def test_each_way_to_differentiate():
    x = normals(1, 5, 2)

    def cost(use) -> Cost:
        counted = Counting(labelled())
        use(counted)
        return counted.cost

    def rows(n: int, **more: int) -> Cost:
        return Cost(1, 5, unconditional_calls=1, unconditional_rows=5, **more)

    def reverse(den, times=1):
        y = x.clone().requires_grad_()
        value = den(y, 0.3)
        for _ in range(times):
            torch.autograd.grad(value.sum(), y, retain_graph=True)

    def twice(den):
        y = x.clone().requires_grad_()
        (g,) = torch.autograd.grad(den(y, 0.3).sum(), y, create_graph=True)
        torch.autograd.grad(g.sum(), y)

    def dual(den):
        with torch.autograd.forward_ad.dual_level():
            den(torch.autograd.forward_ad.make_dual(x, x), 0.3)

    assert cost(lambda den: den(x, 0.3)) == rows(5)
    assert cost(lambda den: den.raws(x, 0.3)) == rows(5)
    assert cost(reverse) == rows(5, vjps=1, vjp_rows=5)
    assert cost(lambda den: reverse(den, 3)) == rows(5, vjps=3, vjp_rows=15)
    assert cost(twice) == rows(5, vjps=2, vjp_rows=10)
    assert cost(dual) == rows(5, jvps=1, jvp_rows=5)
    assert cost(lambda den: torch.func.jvp(lambda v: den(v, 0.3), (x,), (x,))) == rows(
        5, jvps=1, jvp_rows=5
    )
    assert cost(lambda den: torch.func.vjp(lambda v: den(v, 0.3), x)[1](x)) == rows(
        5, vjps=1, vjp_rows=5
    )
    jacobian = torch.func.vmap(torch.func.jacrev(lambda v: den_row(den_now[0], v)))
    den_now = [Counting(labelled())]
    assert jacobian(x).shape == (5, 2, 2)
    assert den_now[0].cost.rows == 5 and den_now[0].cost.vjp_rows == 10


def den_row(den, v):
    return den(v[None], 0.3)[0]


def test_gradients_of_weights_are_reverse_passes_too():
    net = torch.nn.Linear(2, 2)
    counted = Counting(wrap(lambda x, t: net(x), VPLinear(), "eps", shape=(2,)))
    counted(torch.ones(4, 2), 0.5).sum().backward()
    assert net.weight.grad is not None
    assert (counted.cost.vjps, counted.cost.vjp_rows) == (1, 4)


def test_everything_else_is_passed_on():
    mu = torch.full((3, 2), 0.5, dtype=F64)
    path = MeanReverting(0.6, VPLinear())
    inner = wrap(lambda x, t: 0.1 * x, path, "eps", shape=(2,))
    model = MeanReverted(inner, mu, per_sample=True)
    counted = Counting(model)
    assert isinstance(counted, Denoiser)
    assert (
        counted.offset is mu
        and counted.batch == 3
        and counted.time_mismatch(0.3) == 0.0
        and counted.device == model.device
    )
    found = fewstep.sample(counted, "ddim", steps=4, seed=2, dtype=F64)
    assert torch.equal(
        found, fewstep.sample(model, "ddim", steps=4, seed=2, dtype=F64)
    ) and found.shape == (3, 2)
    assert counted.calls == 4 and counted.cost.rows == 12 and len(counted.times) == 4
    assert copy.copy(counted).shape == (2,)
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = counted.nothing_such
    assert (
        own_dtype(Counting(wrap(torch.nn.Linear(2, 2), EDM(), "x0", shape=(2,)))) is torch.float32
    )


def test_bad_accounts_are_refused():
    model = mixture(VPLinear())
    with pytest.raises(ScoreError, match="jvp_weight=-1"):
        count_evaluations(model, "ddim", steps=2, jvp_weight=-1.0)
    with pytest.raises(ScoreError, match="wrap its argument"):
        count_evaluations(model, "ddim", guide=lambda den: model, steps=2)
    with pytest.raises(ScoreError, match="info="):
        count_evaluations(model, "ddim", steps=2, info=True)

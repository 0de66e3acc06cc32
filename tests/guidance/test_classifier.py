"""Classifier guidance against the posterior of a Gaussian prior with a Gaussian likelihood."""

from __future__ import annotations

import math

import pytest
import torch
from problems import F64, GRIDS, PATHS, SAMPLERS, Recorder

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import CFG, Classifier
from fewstep.guidance.combinations.classifier import LogProbError
from fewstep.models import BaseDenoiser, GaussianMixture, complete
from fewstep.plans import lower
from fewstep.schedules import DiscreteVP, VPLinear
from fewstep.schedules.kinds import KINDS, ConversionError, convert

Y = torch.tensor([0.7, -0.4, 0.2], dtype=F64)
NOISE = 0.1


def problem():
    """Prior mean and covariance (6), and the linear measurement (3, 6)."""
    random = torch.Generator().manual_seed(3)
    q, _ = torch.linalg.qr(torch.randn(6, 6, generator=random, dtype=F64))
    spectrum = torch.tensor([1.5, 1.0, 0.7, 0.4, 0.2, 0.1], dtype=F64)
    mean = torch.randn(6, generator=random, dtype=F64)
    a = torch.randn(3, 6, generator=random, dtype=F64) / math.sqrt(6.0)
    return mean, q @ torch.diag(spectrum) @ q.T, a


class Gaussian(BaseDenoiser):
    """The exact denoiser of N(mean, cov)."""

    preserves_input = True
    shape = (6,)

    def __init__(self, schedule, mean, cov, kind):
        self.schedule, self.mean, self.cov, self.prediction = schedule, mean, cov, kind

    def gain(self, node):
        eye = torch.eye(6, dtype=F64)
        return (
            node.alpha * self.cov @ torch.linalg.inv(node.alpha**2 * self.cov + node.sigma**2 * eye)
        )

    def x0(self, x, node):
        return self.mean + (x - node.alpha * self.mean) @ self.gain(node).T

    def raws(self, x_in, t, cond=None, channels=("main",)):
        node = self.schedule.node(float(t))
        p, q = convert("x0", self.prediction, node)
        x = x_in.to(F64)
        return ((p * x + q * self.x0(x, node)).to(x_in.dtype),)

    def coefficients(self, t, channel="main"):
        return 0.0, (1.0,)


def likelihood(model, a, y=Y):
    """log p(y | x_t) = log N(y; A D(x_t), A C A^T + NOISE^2), C = (sigma^2 / alpha) K."""

    def log_prob(x, t, cond):
        node = model.schedule.node(float(t))
        law = torch.distributions.MultivariateNormal(
            model.x0(x.to(F64), node) @ a.T,
            node.sigma**2 / node.alpha * a @ model.gain(node) @ a.T
            + NOISE**2 * torch.eye(3, dtype=F64),
        )
        return law.log_prob(y if cond is None else cond)

    return log_prob


def posterior(mean, cov, a, y=Y):
    gain = cov @ a.T @ torch.linalg.inv(a @ cov @ a.T + NOISE**2 * torch.eye(3, dtype=F64))
    return mean + gain @ (y - a @ mean), cov - gain @ a @ cov


def affine_law(den, sampler, name, **given):
    """Mean and covariance of the end of an affine map from N(0, prior_scale^2)."""
    x = PATHS[name].prior_scale * torch.cat([torch.zeros(1, 6, dtype=F64), torch.eye(6, dtype=F64)])
    out = fewstep.sample(den, sampler, x=x, **given)
    columns = (out[1:] - out[0]).T
    return out[0], columns @ columns.T


@pytest.mark.parametrize("kind", ["x0", "eps"])
@pytest.mark.parametrize("name", ["edm", "vp"])
def test_the_end_is_the_posterior(name, kind):
    mean, cov, a = problem()
    model = Gaussian(PATHS[name], mean, cov, kind)
    den = Classifier(model, likelihood(model, a))
    wanted_mean, wanted = posterior(mean, cov, a)
    found_mean, found = affine_law(den, "heun", name, steps=100, grid=GRIDS[name])
    assert float((found - wanted).norm() / wanted.norm()) < 0.02
    assert float((found_mean - wanted_mean).norm() / wanted.trace().sqrt()) < 0.02


def test_the_end_is_the_posterior_on_the_straight_path():
    """The path begins at alpha = 0, where the term is undefined: the interval leaves it out."""
    mean, cov, a = problem()
    model = Gaussian(PATHS["flow"], mean, cov, "velocity")
    with pytest.raises(
        ConversionError, match=r"0 times infinity; leave the time out with interval"
    ):
        affine_law(Classifier(model, likelihood(model, a)), "heun", "flow", steps=10)
    den = Classifier(model, likelihood(model, a), interval=(0.0, 1e4))
    wanted_mean, wanted = posterior(mean, cov, a)
    found_mean, found = affine_law(den, "heun", "flow", steps=100, grid="lam")
    assert float((found - wanted).norm() / wanted.norm()) < 0.02
    assert float((found_mean - wanted_mean).norm() / wanted.trace().sqrt()) < 0.02
    times = [1.0 - 1e-6, *torch.linspace(0.99, 0.0, 10, dtype=F64).tolist()]
    later = Classifier(model, likelihood(model, a))
    assert bool(torch.isfinite(affine_law(later, "ddim", "flow", times=times)[1]).all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PATHS)
def test_each_kind_of_prediction_is_that_of_the_posterior(name, kind):
    """``D' = D + (sigma^2/alpha) g`` is the denoiser of the posterior, in the units of the kind."""
    mean, cov, a = problem()
    schedule = PATHS[name]
    t = float(schedule.t_of_lam(-0.4))
    exact = Gaussian(schedule, *posterior(mean, cov, a), kind)
    model = Gaussian(schedule, mean, cov, kind)
    x = torch.randn(4, 6, dtype=F64)
    made = Classifier(model, likelihood(model, a))(x, t)
    assert torch.allclose(made, exact(x, t), rtol=1e-9, atol=1e-9)
    w = torch.tensor([0.0, 1.0, 2.0, -1.0], dtype=F64)
    wanted = model(x, t) + w[:, None] * (exact(x, t) - model(x, t))
    each = Classifier(model, likelihood(model, a), w)
    assert torch.allclose(each(x, t), wanted, rtol=1e-9, atol=1e-9)
    raws = each.raws(x, t, None, ("main", "model"))
    p, qs = each.coefficients(t, "model")
    assert qs[1] == 0.0 and torch.equal(p * x + qs[0] * raws[0], model(x, t))


def test_the_step_of_algorithm_2():
    """eps' = eps - sqrt(1 - alphas_cumprod) w g, then a step of DDIM."""
    schedule = DiscreteVP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64).tolist())
    network = Recorder(schedule)
    weight = torch.randn(4, 2, dtype=F64)

    def log_prob(x, t, cond):
        return torch.log_softmax(torch.sin(x) @ weight, 1)[torch.arange(len(x)), cond]

    x, cond = torch.randn(2, 4, dtype=F64), torch.tensor([0, 1])
    t, s = 700, 300
    leaf = x.clone().requires_grad_(True)
    (g,) = torch.autograd.grad(log_prob(leaf, t, cond).sum(), leaf)
    a, b = schedule.node(float(t)), schedule.node(float(s))
    eps = torch.tanh(x) - a.sigma * 3.0 * g
    wanted = b.alpha * (x - a.sigma * eps) / a.alpha + b.sigma * eps
    den = Classifier(network, log_prob, 3.0)
    out = fewstep.sample(den, "ddim", x=x, times=[t, s], cond=cond)
    assert torch.allclose(out, wanted, rtol=0, atol=1e-12)


def test_the_condition_goes_where_it_is_said_to_go():
    seen = []

    def log_prob(x, t, cond):
        seen.append(cond)
        return -(x**2).sum(1)

    cond = torch.tensor([1.0, 2.0])
    x = torch.randn(2, 4)
    for more, null, wanted in (
        ({}, None, None),
        ({}, 0.0, torch.zeros(2)),
        ({"conditional": True}, 0.0, cond),
    ):
        network = Recorder(VPLinear(), null=null)
        Classifier(network, log_prob, **more)(x, 0.5, cond)
        ((_, _, given),) = network.calls
        assert given is None if wanted is None else torch.equal(given, wanted)
        assert seen[-1] is cond


@pytest.mark.parametrize("name", PATHS)
def test_rows_and_calls_are_counted(name):
    schedule = PATHS[name]
    count = [0]

    def log_prob(x, t, cond):
        count[0] += 1
        return -(x**2).sum(1)

    for make, share, every in (
        (lambda n, f: Classifier(n, f, 1.0, interval=(0.0, 10.0)), 1, False),
        (lambda n, f: Classifier(n, f, 0.0), 1, None),
        (
            lambda n, f: Classifier(CFG(n, 2.0), f, 1.0, conditional=True, interval=(0.0, 10.0)),
            2,
            0,
        ),
    ):
        count[0] = 0
        network = Recorder(schedule, null=0.0)
        _, info = fewstep.sample(
            make(network, log_prob), "heun", steps=6, grid=GRIDS[name], n=3, shape=(4,),
            cond=torch.ones(3), info=True,
        )  # fmt: skip
        assert info.rows == network.rows == 3 * share * info.nfe
        assert count[0] == 0 if every is None else 0 < count[0] < info.nfe


def test_guidance_folds_into_the_step():
    for name, schedule in PATHS.items():
        for sampler in SAMPLERS:
            plan = fewstep.plan(sampler, schedule, steps=8, grid=GRIDS[name])
            network = GaussianMixture([[0.0]], 1.0, [1.0], schedule, "velocity")
            plain = lower(plan, complete(network))
            den = Classifier(network, lambda x, t, c: -(x**2).sum(1), interval=(0.0, 1e6))
            guided = lower(plan, den)
            assert len(guided.launches) == len(plain.launches)
            for a, b in zip(plain.launches, guided.launches, strict=True):
                assert a.outs == b.outs


@pytest.mark.parametrize("sampler", [*SAMPLERS, "heun"])
@pytest.mark.parametrize("name", PATHS)
def test_each_sample_is_what_it_is_alone(name, sampler):
    plain = GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], 0.3, [0.5, 0.5], PATHS[name], "velocity")
    w, y = torch.tensor([0.0, 1.0, 2.0], dtype=F64), torch.tensor([[1.0], [0.5], [-1.0]])

    def make(scale):
        return Classifier(
            plain, lambda x, t, c: -((x[:, 0] - c[:, 0]) ** 2), scale, interval=(0.0, 3.0)
        )

    z = PATHS[name].prior_scale * torch.randn(3, 2, dtype=F64)
    given = {"steps": 5, "grid": GRIDS[name]}
    every = fewstep.sample(make(w), sampler, x=z, cond=y, seeds=[3, 4, 5], **given)
    for i in range(3):
        one = fewstep.sample(
            make(float(w[i])), sampler, x=z[i : i + 1], cond=y[i : i + 1], seeds=[3 + i], **given
        )
        assert torch.allclose(every[i : i + 1], one, rtol=0, atol=1e-11)
    chosen = make(w).select(torch.tensor([2, 0]))
    assert chosen.batch == 2 and chosen.scale.tensor.tolist() == [2.0, 0.0]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_runs_in_every_dtype(name, dtype):
    plain = GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], 0.3, [0.5, 0.5], PATHS[name], "velocity")

    def log_prob(x, t, cond):
        assert x.dtype == dtype and torch.is_grad_enabled()
        return plain.log_prob(x, t, cond) - plain.log_prob(x, t)

    for scale in (1.5, torch.tensor([1.0, 2.0])):
        den = Classifier(plain, log_prob, scale, interval=(0.0, 100.0))
        for sampler in SAMPLERS:
            for steps in (1, 2, 3):
                out = fewstep.sample(
                    den, sampler, steps=steps, n=2, cond=torch.tensor([0, 1]), dtype=dtype,
                    grid=GRIDS[name],
                )  # fmt: skip
                assert out.dtype == dtype and bool(torch.isfinite(out).all())
                assert not out.requires_grad


def test_bayes_rule_gives_the_conditional_model():
    """A classifier p(c | x_t) of the mixture itself: guidance with w = 1 is the model of c."""
    for name in PATHS:
        plain = GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], 0.3, [0.5, 0.5], PATHS[name], "v")
        den = Classifier(plain, lambda x, t, c, m=plain: m.log_prob(x, t, c) - m.log_prob(x, t))
        x, cond = torch.randn(4, 2, dtype=F64), torch.tensor([0, 1, 1, 0])
        t = float(PATHS[name].t_of_lam(0.2))
        assert torch.allclose(den(x, t, cond), plain(x, t, cond), rtol=0, atol=1e-11)


@pytest.mark.parametrize("grad", ["full", "checkpoint"])
def test_a_run_with_gradients_differentiates_the_term_too(grad):
    """The Jacobian of the run is that of its affine map."""
    mean, cov, a = problem()
    model = Gaussian(PATHS["vp"], mean, cov, "eps")
    den = Classifier(model, likelihood(model, a))
    given = {"steps": 4, "grid": "lam"}
    eye = torch.eye(6, dtype=F64)
    ends = fewstep.sample(
        den, "dpmpp_2m", x=torch.cat([torch.zeros(1, 6, dtype=F64), eye]), **given
    )
    x = torch.randn(1, 6, dtype=F64, requires_grad=True)
    fewstep.sample(den, "dpmpp_2m", x=x, grad=grad, **given).sum().backward()
    assert torch.allclose(x.grad[0], (ends[1:] - ends[0]).sum(1), rtol=1e-8, atol=1e-10)


def test_what_cannot_run_is_refused():
    network = Recorder(VPLinear())
    good = lambda x, t, cond: -(x**2).sum(1)  # noqa: E731
    for make, message in (
        (lambda: Classifier(network, good, math.nan), "scale=nan"),
        (lambda: Classifier(network, None), "log_prob=None: must be a function"),
        (lambda: Classifier(network, good, conditional=1), "conditional=1 must be True or False"),
        (lambda: Classifier(network, good, interval=(1.0, 0.0)), "interval="),
        (lambda: Classifier(CFG(network, torch.ones(3)), good, torch.ones(2)), "is for 3 samples"),
    ):
        with pytest.raises(ArgumentError, match=message):
            make()
    x = torch.ones(2, 4)
    given = {"steps": 2, "grid": "lam", "x": x}
    with torch.inference_mode(), pytest.raises(ArgumentError, match=r"use torch.no_grad\(\)"):
        fewstep.sample(Classifier(network, good), "ddim", **given)
    with pytest.raises(ArgumentError, match="3 values for 2 samples"):
        fewstep.sample(Classifier(network, good, torch.ones(3)), "ddim", **given)
    assert not network.calls
    with torch.inference_mode():
        made_there = torch.ones(2, 4)
    assert bool(torch.isfinite(Classifier(network, good)(made_there, 0.5)).all())
    for bad, message in (
        (lambda x, t, c: -(x**2).sum(), r"shape \(2,\), one number per sample"),
        (lambda x, t, c: 0.0, "one number per sample"),
        (lambda x, t, c: -(x.detach() ** 2).sum(1), "does not depend on x differentiably"),
        (lambda x, t, c: torch.ones(2, requires_grad=True), "does not depend on x"),
    ):
        with pytest.raises(ArgumentError, match=message):
            fewstep.sample(Classifier(network, bad), "ddim", **given)

    def root(x, t, cond):  # infinite slope at 0
        return (x - torch.tensor([[0.0], [1.0]])).abs().sqrt().sum(1)

    with pytest.raises(LogProbError, match=r"not finite at t=.*samples \[1\]"):
        Classifier(network, root)(x, 0.5)

"""Zeroth-order gradients: mean and variance on quadratics, options, seeds, automatic
differentiation."""

from __future__ import annotations

import math

import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import Classifier, Reward, Smoothed, Smoothing
from fewstep.models import GaussianMixture
from fewstep.schedules import EDM

F64 = torch.float64
D = 5
G = torch.Generator().manual_seed(3)
A = torch.randn(3, D, generator=G, dtype=F64)
Y = torch.randn(3, generator=G, dtype=F64)
POINT = torch.randn(D, generator=G, dtype=F64)
#: of ``|A x - y|^2``
HESSIAN = 2.0 * A.T @ A
GRADIENT = 2.0 * A.T @ (A @ POINT - Y)


def loss(x):
    return ((x @ A.T - Y) ** 2).sum(-1)


def many(smoothing, runs=4000):
    """Estimates at one point with seeds 0 .. runs - 1, (runs, D)."""
    return smoothing.gradient(loss, POINT.expand(runs, D))


def variance(smoothing):
    """The sum of the variances of an estimate on the quadratic."""
    n, square = smoothing.directions, float(GRADIENT @ GRADIENT)
    if smoothing.orthogonal:
        return (D / n - 1.0) * square
    more = 0.0
    if smoothing.form == "forward":
        trace, trace_square = float(HESSIAN.trace()), float((HESSIAN @ HESSIAN).trace())
        more = smoothing.mu**2 / 4.0 * (D + 4) * (trace**2 + 2.0 * trace_square)
    return ((D + 1) * square + more) / n


FORMS = [
    Smoothing(8, 0.1),
    Smoothing(40, 0.1),
    Smoothing(8, 0.01, "forward"),
    Smoothing(8, 1.0, "forward"),
    Smoothing(3, 0.1, orthogonal=True),
]


@pytest.mark.parametrize("smoothing", FORMS, ids=str)
def test_mean_and_variance_are_those_of_the_closed_form(smoothing):
    runs = 4000
    g = many(smoothing, runs)
    expected = variance(smoothing)
    error = float((g.mean(0) - GRADIENT).norm())
    assert error < 3.0 * math.sqrt(expected / runs)
    measured = float((g - GRADIENT).square().sum(1).mean())
    # the standard error of the measured variance
    spread = float((g - GRADIENT).square().sum(1).std()) / math.sqrt(runs)
    assert abs(measured - expected) < 4.0 * spread
    assert spread < 0.05 * expected


def test_one_estimate_is_within_the_stated_error():
    smoothing = Smoothing(2000, 0.1)
    g = smoothing.gradient(loss, POINT[None], seeds=[11])[0]
    bound = 3.0 * math.sqrt((D + 1) / smoothing.directions) * float(GRADIENT.norm())
    assert float((g - GRADIENT).norm()) < bound


def test_all_orthogonal_directions_give_the_gradient():
    for blocks in (1, 3):
        g = Smoothing(D * blocks, 0.1, orthogonal=True).gradient(loss, POINT[None])
        assert torch.allclose(g[0], GRADIENT, atol=1e-5 * float(GRADIENT.norm()))


def test_forward_with_large_mu_is_worse():
    forward, central = (variance(Smoothing(8, 1.0, form)) for form in ("forward", "central"))
    assert forward > 2.0 * central


@pytest.mark.parametrize(
    "smoothing", [Smoothing(70), Smoothing(70, form="forward"), Smoothing(7, orthogonal=True)]
)
def test_results_do_not_depend_on_batch_or_chunk(smoothing):
    x = torch.randn(6, 2, 4, generator=torch.Generator().manual_seed(0))

    def f(v):  # sums in a fixed order
        total = v[:, 0, 0] * v[:, 1, 1]
        for column in v.flatten(1).unbind(1):
            total = total + column**3
        return total

    seeds = [5, 1, 9, 2**40, 0, 3]
    whole = smoothing.gradient(f, x, seeds=seeds)
    for rows in ([0, 1], [4], [5, 3]):
        part = smoothing.gradient(f, x[rows], seeds=[seeds[i] for i in rows])
        assert torch.equal(part, whole[rows])
    for chunk in (1, 13, 1000):
        again = Smoothing(
            smoothing.directions, form=smoothing.form, orthogonal=smoothing.orthogonal, chunk=chunk
        ).gradient(f, x, seeds=seeds)
        assert torch.equal(again, whole)


def test_directions_have_the_same_bits_in_any_batch():
    x = torch.zeros(5, 2, 4)
    for orthogonal in (False, True):
        seen = []

        def f(points, seen=seen):
            seen.append(points)
            return points[:, 0, 0]

        smoothing = Smoothing(7, orthogonal=orthogonal)
        smoothing.gradient(f, x, seeds=[3, 4, 5, 6, 7])
        smoothing.gradient(f, x[:1], seeds=[6])
        whole = seen[0].reshape(5, 7, 2, 4)
        assert torch.equal(seen[2].reshape(1, 7, 2, 4), whole[3:4])
        if orthogonal:
            u = whole.flatten(2) / smoothing.mu
            assert torch.allclose(u @ u.mT, 8.0 * torch.eye(7).expand(5, 7, 7), atol=1e-4)


def test_other_times_have_other_directions():
    x = POINT[None]
    one, two = (Smoothing(4).gradient(loss, x, t=t) for t in (0.5, 0.25))
    assert not torch.allclose(one, two)
    assert torch.equal(one, Smoothing(4).gradient(loss, x, t=0.5))


@pytest.mark.parametrize("form", ["central", "forward"])
def test_evaluations_are_counted(form):
    smoothing = Smoothing(50, form=form)
    reward = Reward(loss)
    smoothing.gradient(reward, POINT.expand(3, D))
    assert reward.rows == 3 * smoothing.evaluations
    known = Reward(loss)
    smoothing.gradient(known, POINT.expand(3, D), values=loss(POINT.expand(3, D)))
    assert known.rows == 3 * (100 if form == "central" else 50)


def test_lost_directions_are_left_out():
    def f(x):
        return torch.where(x[:, 0] > POINT[0], math.nan, loss(x))

    reward = Reward(f)
    g = Smoothing(2000, 0.1, "forward").gradient(reward, POINT[None], values=loss(POINT[None]))
    assert 900 < reward.lost.count < 1100
    # the half of the directions with u_0 < 0: the mean of u_i u_j stays, but for the bias of f
    assert float((g[0] - GRADIENT).norm()) < 0.5 * float(GRADIENT.norm())
    all_lost = Smoothing(4).gradient(lambda x: torch.full((len(x),), -math.inf), POINT[None])
    assert all_lost.tolist() == [[0.0] * D]


def test_small_mu_in_float32_warns():
    x = POINT[None].float()
    f = lambda v: loss(v.double())  # noqa: E731
    with pytest.warns(UserWarning, match="lost in rounding"):
        Smoothing(4, 1e-5).gradient(f, x)
    Smoothing(4, 1e-5).gradient(f, x.double())
    Smoothing(4, 1e-3).gradient(f, x)


def test_the_surrogate_has_the_values_and_the_estimate():
    smoothing = Smoothing(16)
    smoothed = Smoothed(loss, smoothing)
    x = torch.stack([POINT, -POINT]).requires_grad_(True)
    value = smoothed(x, seeds=[4, 5], t=0.3)
    assert torch.equal(value, loss(x.detach()))
    (g,) = torch.autograd.grad((value * torch.tensor([1.0, 3.0])).sum(), x)
    expected = smoothing.gradient(loss, x, seeds=[4, 5], t=0.3)
    assert torch.allclose(g, expected * torch.tensor([[1.0], [3.0]], dtype=F64))
    assert smoothed.reward.rows == 2 + 2 * 32


def test_without_a_gradient_only_the_value_is_computed():
    smoothed = Smoothed(loss)
    smoothed(POINT[None])
    assert smoothed.reward.rows == 1


def test_the_forward_form_uses_the_value_of_the_surrogate():
    smoothed = Smoothed(loss, Smoothing(10, form="forward"))
    x = POINT[None].clone().requires_grad_(True)
    smoothed(x).sum().backward()
    assert smoothed.reward.rows == smoothed.smoothing.evaluations


def test_the_gradient_goes_on_through_a_network():
    """A black box after a differentiable map: the product of its estimate and the map's transposed
    Jacobian."""
    matrix = torch.randn(D, D, generator=torch.Generator().manual_seed(8), dtype=F64)
    x = POINT[None].clone().requires_grad_(True)
    smoothed = Smoothed(loss, Smoothing(D, 0.1, orthogonal=True))
    smoothed(x @ matrix.T).sum().backward()
    at = (x @ matrix.T).detach().requires_grad_(True)
    loss(at).sum().backward()
    assert torch.allclose(x.grad, at.grad @ matrix, rtol=1e-5)


def test_guidance_by_a_black_box_log_probability():
    """Classifier guidance with a quadratic black box: all orthogonal directions give the exact
    gradient, so the samples are those of the differentiable function."""
    den = GaussianMixture([[0.0, 1.0]], [0.7], [1.0], EDM(0.02, 10.0))

    def log_prob(x):
        return -0.5 * ((x - 1.0) ** 2).sum(1) / (1.0 + 0.5)

    def with_function(f):
        guided = Classifier(den, lambda x, t, cond: f(x))
        return fewstep.sample(guided, "ddim", steps=12, n=5, seed=0, dtype=F64)

    black = Smoothed(log_prob, Smoothing(2, 0.5, orthogonal=True))
    assert torch.allclose(with_function(black), with_function(log_prob), atol=1e-5)
    assert black.reward.rows == 12 * 5 * (1 + black.smoothing.evaluations)


def test_seeds_in_the_condition_make_guidance_independent_of_the_batch():
    den = GaussianMixture([[0.0, 1.0]], [0.7], [1.0], EDM(0.02, 10.0))
    score = Smoothed(lambda x: -((x - 1.0) ** 2).sum(1), Smoothing(3, 0.5))

    def run(seeds):
        guided = Classifier(den, lambda x, t, cond: score(x, t=t, seeds=cond["seed"]))
        cond = {"seed": torch.tensor(seeds)}
        return fewstep.sample(guided, "ddim", steps=6, seeds=seeds, cond=cond, dtype=F64)

    whole = run([4, 9, 2])
    assert torch.equal(run([9]), whole[1:2])
    assert torch.equal(run([2, 4]), whole[[2, 0]])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"directions": 0}, "directions"),
        ({"mu": 0.0}, "mu"),
        ({"mu": math.nan}, "mu"),
        ({"form": "backward"}, "form"),
        ({"orthogonal": 1}, "orthogonal"),
        ({"chunk": 0}, "chunk"),
    ],
)
def test_bad_numbers(arguments, match):
    with pytest.raises(ArgumentError, match=match):
        Smoothing(**arguments)


def test_bad_calls():
    with pytest.raises(ArgumentError, match="3 seeds for 1 samples"):
        Smoothing().gradient(loss, POINT[None], seeds=[1, 2, 3])
    with pytest.raises(ArgumentError, match="one time for all"):
        Smoothing().gradient(loss, POINT.expand(2, D), t=torch.tensor([0.1, 0.2]))
    with pytest.raises(ArgumentError, match="values have shape"):
        Smoothing(form="forward").gradient(loss, POINT[None], values=torch.zeros(2))
    with pytest.raises(ArgumentError, match="x must be"):
        Smoothing().gradient(loss, [1.0])
    with pytest.raises(ArgumentError, match="smoothing"):
        Smoothed(loss, 3)

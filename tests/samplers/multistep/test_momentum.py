"""Momentum methods written out in y = x / alpha: heavy ball, Nesterov, GHVB and gradient
estimation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import fewstep
from fewstep.models import GaussianMixture
from fewstep.plans.weights.exponential import adams
from fewstep.samplers.multistep.momentum import damped_adams
from fewstep.schedules import EDM, VPLinear, grid

RHOS = [9.0, 4.0, 2.2, 1.0, 0.5, 0.3]
X = torch.tensor([[0.7, -1.2], [-0.4, 0.9]], dtype=torch.float64)


def model(schedule, kind="eps"):
    return GaussianMixture([[1.0, -0.5], [-0.8, 0.6]], [0.3, 0.4], [0.6, 0.4], schedule, kind)


def found(name, schedule, **options):
    path = grid("custom", schedule, sigmas=RHOS)
    return fewstep.run(
        fewstep.plan(name, schedule, grid=path, **options), model(schedule), X * path[0].sigma
    ), path


@pytest.mark.parametrize("schedule", [VPLinear(), EDM(0.002, 80.0)], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("beta", [0.8, 0.3])
@pytest.mark.parametrize("order", [1, 3])
def test_heavy_ball_and_nesterov_on_ipndm(order, beta, nesterov, schedule):
    """``v = (1 - beta) v + beta new``; Nesterov's slope is the mean one step ahead,
    ``(1 - beta) v + beta new`` again."""
    out, path = found("heavy_ball", schedule, beta=beta, nesterov=nesterov, order=order)
    x, v, history = X * path[0].sigma, None, []
    for s, t in path.pairs():
        history = [model(schedule)(x, s.t), *history[: order - 1]]
        new = sum(c * e for c, e in zip(adams(len(history)), history, strict=True))
        v = new if v is None else (1.0 - beta) * v + beta * new
        slope = (1.0 - beta) * v + beta * new if nesterov else v
        x = t.alpha * (x / s.alpha + (t.rho - s.rho) * slope)
    torch.testing.assert_close(out, x, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("beta", [0.8, 0.3])
def test_heavy_ball_and_nesterov_on_dpmpp_2m(beta, nesterov):
    schedule = VPLinear()
    out, path = found("heavy_ball", schedule, beta=beta, nesterov=nesterov, base="dpmpp_2m")
    x, v, before, h = X * path[0].sigma, None, None, None
    for s, t in path.pairs():
        data = model(schedule, "x0")(x, s.t)
        last, h = h, math.log(s.rho / t.rho)
        new = data if before is None else data + 0.5 * h / last * (data - before)
        v = new if v is None else (1.0 - beta) * v + beta * new
        slope = (1.0 - beta) * v + beta * new if nesterov else v
        x = t.sigma / s.sigma * x - t.alpha * math.expm1(-h) * slope
        before = data
    torch.testing.assert_close(out, x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("gamma", [0.5, 1.5, 2.0])
def test_gradient_estimation(gamma):
    schedule = VPLinear()
    out, path = found("gradient_estimation", schedule, gamma=gamma)
    x, before = X * path[0].sigma, None
    for s, t in path.pairs():
        e = model(schedule)(x, s.t)
        slope = e if before is None else gamma * e + (1.0 - gamma) * before
        x, before = t.alpha * (x / s.alpha + (t.rho - s.rho) * slope), e
    torch.testing.assert_close(out, x, rtol=1e-11, atol=1e-11)


#: int_0^1 of (-1)^j binom(-theta, j)
GAMMA = (1.0, 1 / 2, 5 / 12, 3 / 8, 251 / 720)


@pytest.mark.parametrize("order", [0.8, 1.7, 2.5, 3.3, 4.5])
def test_ghvb(order):
    """Differences of the running means in the series of eq. 12, divided by beta's lag:
    ``gamma_j + (1 - beta)/beta gamma_{j-1}``."""
    schedule = VPLinear()
    out, path = found("ghvb", schedule, order=order)
    count, beta = math.ceil(order), order - (math.ceil(order) - 1)
    x, means = X * path[0].sigma, []
    for s, t in path.pairs():
        e = model(schedule)(x, s.t)
        means = [e if not means else (1.0 - beta) * means[0] + beta * e, *means[: count - 1]]
        differences, row = [], list(means)
        while row:
            differences.append(row[0])
            row = [a - b for a, b in itertools.pairwise(row)]
        lag = (1.0 - beta) / beta
        slope = sum(
            (GAMMA[j] + (lag * GAMMA[j - 1] if j else 0.0)) * d for j, d in enumerate(differences)
        )
        x = t.alpha * (x / s.alpha + (t.rho - s.rho) * slope)
    torch.testing.assert_close(out, x, rtol=1e-10, atol=1e-10)


def test_damped_adams_without_damping_is_adams():
    for k in range(1, 6):
        assert damped_adams(k, 1.0) == adams(k)
        assert damped_adams(k, 1.0 - 1e-9) == pytest.approx(adams(k), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("heavy_ball", {"order": 1}),
        ("heavy_ball", {"base": "dpmpp_2m", "nesterov": True}),
        ("gradient_estimation", {}),
    ],
)
def test_a_step_to_sigma_zero_has_no_momentum(name, options):
    """The last state is the data prediction there, whatever was remembered."""
    plan = fewstep.plan(name, VPLinear(), steps=5, **options)
    den, states = model(VPLinear()), []
    out = fewstep.run(plan, den, X, on_step=lambda s: states.append(s.x_next))
    last = plan.evaluations[-1].node
    torch.testing.assert_close(
        out, model(VPLinear(), "x0")(states[-2], last.t), rtol=1e-10, atol=1e-10
    )

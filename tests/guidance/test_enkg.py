"""EnKG: the move of an ensemble, its invariances, and the residual on a linear problem."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from problems import F64, PATHS, Recorder

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import Reward, steer
from fewstep.guidance.populations.enkg import EnKG
from fewstep.guidance.populations.ensemble import cross_products, moved
from fewstep.models import GaussianMixture
from fewstep.schedules import EDM, Flow, VPLinear

D, ROWS, NOISE = 6, 3, 0.1
_G = torch.Generator().manual_seed(1)
A = torch.randn(ROWS, D, generator=_G, dtype=F64) / math.sqrt(D)
STD = torch.tensor([1.5, 1.0, 0.7, 0.4, 0.2, 0.1], dtype=F64).sqrt()
MEAN = 0.5 * torch.randn(D, generator=_G, dtype=F64)
TRUTH = MEAN + STD * torch.randn(D, generator=_G, dtype=F64)
Y = A @ TRUTH + NOISE * torch.randn(ROWS, generator=_G, dtype=F64)
#: the posterior
GAIN = (STD**2)[:, None] * A.T @ torch.linalg.inv((A * STD**2) @ A.T + NOISE**2 * torch.eye(ROWS))
M_Y, S_Y = MEAN + GAIN @ (Y - A @ MEAN), torch.diag(STD**2) - GAIN @ (A * STD**2)


def prior(schedule: Any) -> GaussianMixture:
    kind = "velocity" if isinstance(schedule, Flow) else "eps"
    return GaussianMixture(MEAN[None], STD[None], [1.0], schedule, kind)


def forward(x: Any) -> Any:
    return x @ A.T


def fit(x: Any) -> Any:
    return -((forward(x) - Y) ** 2).sum(1)


def residual(x: Any) -> Any:
    """In units of ``sigma_y sqrt(m)``."""
    return (forward(x) - Y).norm(dim=-1) / (NOISE * math.sqrt(ROWS))


def run(schedule: Any = None, steps: int = 80, particles: int = 64, **options: Any) -> Any:
    schedule = EDM(0.002, 80.0) if schedule is None else schedule
    arguments = {"forward": forward, "data": Y, "n": 1, "dtype": F64, "scale": 0.5, **options}
    grid = "karras" if isinstance(schedule, EDM) else "lam"
    return steer(
        prior(schedule), arguments.pop("reward", fit), method="enkg", steps=steps, grid=grid,
        particles=particles, **arguments,
    )  # fmt: skip


def ensemble(count: int = 9) -> Any:
    g = torch.Generator().manual_seed(5)
    x = torch.randn(count, D, generator=g, dtype=F64)
    return x, forward(x), forward(x) - Y


def test_the_move_is_the_covariance_formula():
    x, y, e = ensemble()
    c = cross_products(y, e)
    explicit = torch.tensor(
        [[float(e[j] @ (y[k] - y.mean(0))) / 9 for k in range(9)] for j in range(9)], dtype=F64
    )
    assert torch.allclose(c, explicit, atol=1e-14)
    # (1/J) sum_k (x_k - xbar) (Y_k - Ybar)^T e_j
    covariance = (x - x.mean(0)).T @ (y - y.mean(0)) / 9
    expected = x - 0.7 / c.norm() * e @ covariance.T
    assert torch.allclose(moved(x, c, 0.7), expected, atol=1e-14)


def test_the_move_commutes_with_translations_and_factors():
    x, y, e = ensemble()
    c = cross_products(y, e)
    shift = torch.arange(D, dtype=F64)
    assert torch.allclose(cross_products(y + 3.0, e), c, atol=1e-13)
    assert torch.allclose(moved(x + shift, c, 0.7), moved(x, c, 0.7) + shift, atol=1e-13)
    assert torch.allclose(moved(0.3 * x, c, 0.7), 0.3 * moved(x, c, 0.7), atol=1e-14)
    # the step-size rule: the errors may have any unit
    assert torch.allclose(moved(x, 100.0 * c, 0.7), moved(x, c, 0.7), atol=1e-13)


def test_particles_stay_in_the_span_of_the_ensemble():
    x, y, e = ensemble(3)
    after = moved(x, cross_products(y, e), 0.7)
    basis = (x - x.mean(0))[:2].T
    out = after - x
    inside = basis @ torch.linalg.lstsq(basis, out.T).solution
    assert torch.allclose(inside.T, out, atol=1e-12) and float(out.norm()) > 0.1


def test_one_particle_and_equal_particles_do_not_move():
    x, y, e = ensemble(1)
    assert torch.equal(moved(x, cross_products(y, e), 2.0), x)
    x, y, e = (v.expand(4, -1) for v in (x, y, e))
    assert torch.allclose(moved(x, cross_products(y, e), 2.0), x, atol=1e-12)
    assert torch.equal(moved(x, torch.zeros(4, 4, dtype=F64), 2.0), x)


def test_particles_without_outputs_neither_move_nor_count():
    x, y, e = ensemble()
    y = y.clone()
    y[2, 0] = math.nan
    keep = [0, 1, 3, 4, 5, 6, 7, 8]
    after = moved(x, cross_products(y, e), 0.7)
    alone = moved(x[keep], cross_products(y[keep], e[keep]), 0.7)
    assert torch.allclose(after[keep], alone, atol=1e-13) and torch.equal(after[2], x[2])


@pytest.mark.parametrize("schedule", [EDM(0.002, 80.0), VPLinear(), Flow()], ids=repr)
def test_the_residual_falls_below_the_noise(schedule):
    """Measured, mean over the particles: .59 (EDM), .50 (VP), .49 (Flow); without moves 10.4. Their
    covariance has .15, .27 and .28 of the posterior's trace, their mean is .43, 1.30 and 1.20 of
    its standard deviations off: an optimiser."""
    x, info = run(schedule)
    particles = info.particles[0]
    assert float(residual(x)[0]) <= 1.0 and float(residual(particles).mean()) <= 1.0
    assert float(particles.T.cov().trace() / S_Y.trace()) < 0.6
    assert float((particles.mean(0) - M_Y).norm() / S_Y.trace().sqrt()) > 0.2
    assert torch.allclose(info.rewards, fit(x))
    assert torch.equal(info.rewards[0], info.particle_rewards.max())


def test_the_published_scale_finds_a_particle():
    """Measured: .34 and .60; the mean over the particles is 1.27."""
    x, _ = run(scale=2.0, n=2)
    assert float(residual(x).max()) <= 1.0


def test_a_reward_alone_moves_the_ensemble():
    """Without a forward model Y is the loss itself, and the ensemble moves as one. Measured:
    residual of its mean 5.6 without moves, 1.9 with them (three seeds each)."""

    def middle(scale: float) -> float:
        x, info = run(forward=None, data=None, scale=scale, n=3)
        assert torch.allclose(info.rewards, fit(x))
        return float(residual(info.particles.mean(1)).mean())

    assert middle(0.5) < 0.6 * middle(0.0)


def test_error_is_the_gradient_of_a_loss():
    whole, _ = run(steps=20, particles=16)
    same, _ = run(steps=20, particles=16, data=None, error=lambda y: y - Y)
    each, _ = run(steps=20, particles=16, data=Y[None].expand(1, -1))
    assert torch.equal(whole, same) and torch.equal(whole, each)


def test_splits_and_chunks_change_no_bit():
    def one(**more: Any) -> Any:
        return run(steps=12, particles=8, **{"n": None, **more})[0]

    whole = one(seeds=(4, 9, 2))
    assert torch.equal(one(seeds=(4, 9, 2), batch=5), whole)
    assert torch.equal(one(seeds=(9,)), whole[1:2])
    assert not torch.equal(one(seeds=(5,)), whole[:1])


@pytest.mark.parametrize("steps", [1, 2, 3, 12])
@pytest.mark.parametrize("options", [{}, {"schedule": "inversebench", "moves": 1}])
@pytest.mark.parametrize("sampler", [None, "heun"])
def test_the_predicted_cost_is_the_counted_one(steps, options, sampler):
    den, made = Recorder(PATHS["edm"]), Reward(lambda x: x[:, 0])
    _, info = steer(
        den, made, method="enkg", sampler=sampler, steps=steps, particles=5, n=2, shape=(2,),
        batch=3, **options,
    )  # fmt: skip
    assert info.predicted.rows == info.rows == den.rows
    assert info.predicted.rewards == info.reward_rows == made.rows


def test_the_two_schedules():
    authors, other = EnKG(), EnKG(schedule="inversebench")
    assert [i for i in range(80) if authors.active(i, 80)] == list(range(9, 72))
    assert [i for i in range(80) if other.active(i, 80)] == list(range(1, 80))
    assert [authors.inner(i, 80) for i in (0, 10, 60, 79)] == [20, 18, 6, 1]
    assert [other.inner(i, 80) for i in (0, 10, 60, 79)] == [11, 9, 3, 1]
    assert authors.length(10, 80) == 2.0
    assert EnKG(least=0.1).length(20, 80) == 2.0 * 0.9 * 0.75 + 0.1


def test_one_sample_of_one_particle_is_the_ode():
    den = prior(EDM(0.002, 80.0))
    x, _ = run(steps=10, particles=1, n=3)
    alone = fewstep.sample(den, "ddim", steps=10, grid="karras", n=3, dtype=F64)
    assert torch.allclose(x, alone, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sampler": "euler_ancestral"}, "adds noise: use a sampler without noise"),
        ({"data": None}, "forward= needs one of"),
        ({"error": forward}, "forward= needs one of"),
        ({"forward": None}, "neither is used"),
        ({"forward": 3}, "forward"),
        ({"data": [1.0]}, "data must be a tensor"),
        ({"schedule": "mine"}, "schedule"),
        ({"moves": 0}, "moves"),
        ({"scale": math.nan}, "scale"),
    ],
)
def test_bad_input_is_refused_before_the_first_call(options, match):
    den = Recorder(PATHS["edm"])
    given = {"forward": forward, "data": Y, **options}
    with pytest.raises(ArgumentError, match=match):
        steer(den, fit, method="enkg", particles=4, shape=(D,), **given)
    assert not den.calls


def test_outputs_of_another_shape_are_refused():
    for given, match in (
        ({"data": torch.zeros(2, dtype=F64)}, "data has shape"),
        ({"forward": lambda x: x.sum(1)}, "forward returned"),
        ({"forward": lambda x: x[:2]}, "forward returned"),
        ({"data": None, "error": lambda y: y[:, :1]}, "error returned shape"),
    ):
        with pytest.raises(ArgumentError, match=match):
            run(steps=12, particles=4, **given)

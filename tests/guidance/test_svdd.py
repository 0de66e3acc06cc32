"""SVDD and stochastic control guidance: laws, values, costs, refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from problems import F64, PATHS, Recorder
from tilted import exact_value, mixture, moments, reward
from torch import Tensor

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import CFG, Reward, steer
from fewstep.guidance.populations.rewards import RewardError
from fewstep.guidance.populations.svdd import SVDD
from fewstep.guidance.populations.values import rollout_plan, soft_mean, weights_of
from fewstep.schedules import VPLinear

VALUE = exact_value(VPLinear())


def mean_and_error(x: Tensor) -> tuple[float, float]:
    """Mean of the draws and its standard error."""
    flat = x.to(F64).flatten()
    return float(flat.mean()), float(flat.std()) / math.sqrt(flat.numel())


def draw(
    method: str = "svdd", steps: int = 100, particles: int = 20, n: int = 1000, **more: Any
) -> Any:
    return steer(
        mixture(), more.pop("rewards", reward), method=method, steps=steps, grid=more.pop("grid", "uniform"),
        particles=particles, n=n, dtype=torch.float32, **more,
    )  # fmt: skip


def test_the_tilted_law_is_the_reference():
    mean, variance = moments()
    assert abs(mean - 0.798) < 1e-3 and abs(variance - 0.694) < 1e-3


def test_the_exact_value_gives_the_tilted_mean():
    """Measured at 4,000 draws: .739, variance .742. The spread of the mean of 1,000 is .027."""
    mean, _ = mean_and_error(draw(value=VALUE)[0])
    assert abs(mean - moments()[0]) < 0.08


def test_few_candidates_of_the_exact_value_are_further_off():
    """Measured at 4,000 draws: .667, variance .859."""
    x, _ = draw(value=VALUE, particles=5, n=800)
    mean, error = mean_and_error(x)
    assert abs(mean - 0.66) < 3.0 * error and mean < moments()[0] - 0.05


@pytest.mark.slow
def test_many_candidates_and_steps_reach_the_tilted_mean():
    """Measured: .782 (1.9 %; standard error .022), variance .707 (1.9 %); with 3,000 draws .786
    and .701; on the uniform grid .816 and .715 (exact: .798 and .694)."""
    x, _ = draw(value=VALUE, particles=64, steps=400, n=1500, grid="lam")
    mean, error = mean_and_error(x)
    exact, variance = moments()
    assert abs(mean - exact) < 0.03 * exact + error
    assert abs(float(x.var()) - variance) < 0.1 * variance


def test_the_value_of_the_prediction_keeps_a_bias():
    """Measured at 4,000 draws: 1.132, variance .529, no draw in the left mode."""
    x, _ = draw(n=300)
    mean, error = mean_and_error(x)
    assert abs(mean - 1.13) < 3.0 * error
    assert abs(mean - moments()[0]) > 0.2
    assert float((x < -1.0).double().mean()) < 0.01


def test_the_largest_value_collapses():
    for method, more in (("svdd", {"temperature": 0.0}), ("scg", {})):
        x, _ = draw(method, n=100, **more)
        assert abs(float(x.mean()) - 1.0) < 0.01 and float(x.var()) < 1e-4
        assert abs(float(x.mean()) - moments()[0]) > 0.08


def test_a_rollout_is_a_better_value_than_the_prediction():
    """Measured at 300 draws, 5 candidates, 50 steps: .853 for one ODE run of 4 steps; SVDD-PM has
    1.13."""
    x, _ = draw(value="rollout", particles=5, steps=50, n=300)
    mean, error = mean_and_error(x)
    assert abs(mean - moments()[0]) < 3.0 * error and mean < 1.0


def test_a_high_temperature_is_the_sampler_without_a_reward():
    x, _ = draw(temperature=1e6, n=1000, particles=5, steps=50)
    mean, error = mean_and_error(x)
    assert abs(mean + 0.6) < 3.0 * error


@pytest.mark.parametrize(
    "sampler", [None, "dpmpp_2m_sde", "euler_ancestral", "dpmpp_sde", "sa_solver"]
)
@pytest.mark.parametrize("method", ["svdd", "scg", "dsearch"])
def test_one_candidate_is_the_sampler_bit_for_bit(sampler, method):
    own = {"sampler": "ddim", "eta": 1.0} if sampler is None else {"sampler": sampler}
    more = {"width": 1} if method == "dsearch" else {}
    x, info = steer(
        mixture(), reward, method=method, sampler=sampler, steps=6, grid="lam", particles=1, n=5,
        seed=3, **more,
    )  # fmt: skip
    alone = fewstep.sample(mixture(), **own, steps=6, grid="lam", n=5, seed=3)
    assert torch.equal(x, alone)
    assert torch.equal(info.rewards, reward(x).double())


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m_sde", "dpmpp_sde"])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("svdd", {}),
        ("svdd", {"value": VALUE}),
        ("svdd", {"value": "rollout", "rollout_steps": 2}),
        ("scg", {"threshold": 0.5}),
        ("dsearch", {"width": 2, "search": "uniform"}),
    ],
)
def test_splits_and_chunks_change_no_bit(sampler, method, options):
    def run(**more: Any) -> Any:
        own = {"sampler_options": {"eta": 1.0}} if sampler == "ddim" else {}
        return steer(
            mixture(), reward, method=method, sampler=sampler, steps=5, grid="lam", particles=4,
            dtype=F64, **own, **options, **more,
        )[0]  # fmt: skip

    whole = run(seeds=(7, 1, 12))
    assert torch.equal(run(seeds=(7, 1, 12), batch=5), whole)
    assert torch.equal(run(seeds=(12,)), whole[2:])
    assert torch.equal(run(seeds=(1, 7)), whole[[1, 0]])
    assert not torch.equal(run(seeds=(7, 1, 13))[2], whole[2])


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("sampler", [None, "dpmpp_2m_sde", "dpmpp_sde", "euler_ancestral"])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("svdd", {}),
        ("svdd", {"value": lambda x, t: x[:, 0]}),
        ("svdd", {"value": "rollout", "rollouts": 3, "rollout_eta": 1.0, "rollout_steps": 2}),
        ("scg", {}),
        ("scg", {"threshold": 1.0}),
        ("dsearch", {}),
        ("dsearch", {"width": 3, "keep": 2, "search": "exponential", "drop": "linear"}),
        ("dsearch", {"value": lambda x, t: x[:, 0], "drop": "none", "replace": 0.5}),
        ("dsearch", {"value": "rollout", "drop": "quadratic", "search": "linear"}),
    ],
)
def test_the_predicted_cost_is_the_counted_one(steps, sampler, method, options):
    den = Recorder(PATHS["vp"], null=0.0)
    made = Reward(lambda x: x[:, 0])
    _, info = steer(
        CFG(den, 2.0), made, method=method, sampler=sampler, steps=steps, grid="lam", particles=5,
        n=2, shape=(2,), cond=torch.ones(2), batch=7, **options,
    )  # fmt: skip
    assert info.predicted.rows == info.rows == den.rows
    assert info.predicted.rewards == info.reward_rows == made.rows


def test_the_network_call_of_the_kept_candidate_is_used_again():
    """N steps of M candidates: one row for the start, M for each of the N - 1 states after."""
    den = Recorder(PATHS["vp"])
    steer(den, lambda x: x[:, 0], method="svdd", steps=9, particles=4, n=1, shape=(2,))
    assert den.rows == 1 + 8 * 4


def test_guidance_begins_after_the_threshold():
    """The first steps are those of the sampler: the states agree until the step that is chosen."""
    den = Recorder(PATHS["vp"])
    _, info = steer(den, lambda x: x[:, 0], method="scg", steps=8, particles=3, shape=(2,))
    calls = [x.shape[0] for x, _, _ in den.calls]
    # steps 0 and 1 are not guided; the candidates of step 2 are the states of call 3
    assert calls == [1, 1, 1, 3, 3, 3, 3, 3] and info.notes["choices"] == 5
    alone = fewstep.sample(den, "ddim", steps=8, n=1, eta=1.0, shape=(2,))
    free, _ = steer(
        den, lambda x: x[:, 0], method="scg", steps=8, particles=3, shape=(2,), threshold=1.0
    )
    assert torch.equal(alone, free)


def test_lost_candidates_are_not_chosen():
    def f(x: Any) -> Any:
        return torch.where(x[:, 0] < -1.0, math.nan, reward(x))

    x, info = draw(rewards=f, n=40, steps=20, particles=8)
    assert bool((x > -1.0).all()) and info.lost.count > 0 and "nan" in info.lost.first


def test_constraints_that_no_candidate_meets_choose_alike():
    """-inf for all candidates of early steps, whose predictions are near -0.6, is no failure; at
    the end it is."""

    def allowed(x: Any) -> Any:
        return torch.where((x[:, 0] + 0.6).abs() > 0.05, 0.0, -math.inf)

    x, info = draw(rewards=allowed, n=50, steps=40, particles=8)
    assert bool(allowed(x).isfinite().all()) and info.notes["undecided"] > 0
    with pytest.raises(
        RewardError, match=r"none of the 4 particles of seeds \[0, 1\] has a reward"
    ):
        draw(rewards=lambda x: torch.full((len(x),), -math.inf), n=2, steps=3, particles=4)


@pytest.mark.parametrize("method", ["svdd", "scg", "dsearch"])
def test_samplers_without_noise_are_refused_before_the_first_call(method):
    den = Recorder(PATHS["vp"])
    with pytest.raises(ArgumentError, match="adds none: use a stochastic sampler: ddim with eta=1"):
        steer(den, lambda x: x[:, 0], method=method, sampler="dpmpp_2m", shape=(2,))
    with pytest.raises(ArgumentError, match="particles"):
        steer(den, lambda x: x[:, 0], method=method, particles=0, shape=(2,))
    assert not den.calls


@pytest.mark.parametrize(
    ("method", "options", "match"),
    [
        ("svdd", {"temperature": -1.0}, "temperature"),
        ("svdd", {"value": "median"}, "did you mean 'mean'"),
        ("svdd", {"value": 3}, "value"),
        ("svdd", {"rollouts": 2}, "for value='rollout'"),
        ("svdd", {"value": "rollout", "rollouts": 2}, "the same run"),
        ("svdd", {"rollout_steps": 0}, "rollout_steps"),
        ("svdd", {"threshold": 0.5}, "unknown option"),
        ("scg", {"threshold": 1.5}, "threshold"),
        ("scg", {"temperature": 1.0}, "unknown option"),
        ("dsearch", {"width": 0}, "width"),
        ("dsearch", {"keep": 9}, "at most"),
        ("dsearch", {"drop": "some"}, "drop"),
        ("dsearch", {"replace": 0.1}, "not both"),
        ("dsearch", {"search": "never"}, "search"),
    ],
)
def test_bad_options_are_refused_before_the_first_call(method, options, match):
    den = Recorder(PATHS["vp"])
    with pytest.raises(ArgumentError, match=match):
        steer(den, lambda x: x[:, 0], method=method, particles=4, shape=(2,), **options)
    assert not den.calls


def test_a_value_function_of_the_wrong_length_is_refused():
    def two_values(x: Any, t: float) -> Any:
        return x

    with pytest.raises(ArgumentError, match="returned Tensor"):
        draw(value=two_values, n=2, steps=3, particles=4)


def test_soft_means_and_weights():
    v = torch.tensor([[[0.0, 1.0]], [[-math.inf, -math.inf]]], dtype=F64)
    assert torch.allclose(
        soft_mean(v, 0.5)[0], 0.5 * torch.log(torch.tensor((1 + math.e**2) / 2, dtype=F64))
    )
    assert soft_mean(v, 0.0).flatten().tolist() == [1.0, -math.inf]
    assert soft_mean(v, 0.5)[1] == -math.inf
    w = weights_of(torch.tensor([[1.0, 3.0, 3.0], [-math.inf] * 3], dtype=F64), 0.0)
    assert w.tolist() == [[-math.inf, 0.0, -math.inf], [0.0, -math.inf, -math.inf]]
    assert weights_of(torch.tensor([[1.0, 3.0]], dtype=F64), 2.0).tolist() == [[0.5, 1.5]]


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_rollouts_go_over_times_of_the_grid_to_its_end(steps):
    plan = fewstep.plan("ddim", PATHS["vp"], steps=10, grid="lam", eta=1.0)

    class Facts:
        denoiser = mixture()

    Facts.plan = plan
    for k in range(plan.nfe):
        made = rollout_plan(Facts, k, SVDD(value="rollout", rollout_steps=steps))
        assert made.nfe == min(steps, plan.nfe - k)
        assert made.evaluations[0].node == plan.evaluations[k].node
        assert {e.node for e in made.evaluations} <= {e.node for e in plan.evaluations}
        assert made.end == plan.end

"""``steer``: the front door, its counts and its refusals, and best of n."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from problems import F64, PATHS, Recorder
from scipy import stats

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import CFG, Reward, steer, steering_methods
from fewstep.guidance.populations import registry
from fewstep.guidance.populations.rewards import RewardError
from fewstep.models import GaussianMixture
from fewstep.schedules import Flow, VPLinear

WEIGHTS, MEANS, STDS = (0.5, 0.3, 0.2), (-2.0, 0.0, 2.0), (0.3, 0.2, 0.4)


def mixture(schedule: Any = None, prediction: str = "eps") -> GaussianMixture:
    means = [[m] for m in MEANS]
    return GaussianMixture(means, STDS, WEIGHTS, schedule or VPLinear(), prediction)


def first(x: Any) -> Any:
    """A reward: the first element."""
    return x.flatten(1)[:, 0]


def test_the_law_of_best_of_n_is_that_of_the_maximum():
    """F^n for the reward x; KS distance at 4,000 draws, whose 1e-3 quantile is .031."""
    n, count = 4, 4000
    x, info = steer(
        mixture(), first, method="best_of_n", sampler="dpmpp_2m", steps=60, grid="lam", n=count,
        particles=n, dtype=F64, batch=4096,
    )  # fmt: skip
    draws = x[:, 0].numpy()

    def cdf(v: Any) -> Any:
        parts = zip(WEIGHTS, MEANS, STDS, strict=True)
        return sum(w * stats.norm.cdf(v, m, s) for w, m, s in parts) ** n

    assert stats.kstest(draws, cdf).statistic < 0.031
    assert stats.kstest(draws, lambda v: cdf(v) ** (1.0 / n)).statistic > 0.3
    assert torch.equal(info.rewards, x[:, 0]) and info.particle_rewards.shape == (count, n)
    assert torch.equal(info.particle_rewards.amax(1), info.rewards)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("batch", [None, 5, 64])
def test_the_predicted_cost_is_the_counted_one(steps, batch):
    den = Recorder(PATHS["vp"], null=0.0)
    reward = Reward(first)
    _, info = steer(
        CFG(den, 2.0), reward, method="best_of_n", particles=6, n=3, steps=steps, shape=(2,),
        cond=torch.ones(3), batch=batch,
    )  # fmt: skip
    assert info.rows == info.predicted.rows == den.rows == 2 * 18 * info.nfe
    assert info.reward_rows == info.predicted.rewards == reward.rows == 18
    assert info.reward_calls == reward.calls


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_the_same_seeds_give_the_same_bits(batch):
    def run(**more: Any) -> Any:
        return steer(mixture(), first, method="best_of_n", particles=5, steps=6, dtype=F64, **more)

    whole, info = run(seeds=(4, 1, 7), batch=batch)
    assert torch.equal(whole, run(seeds=(4, 1, 7))[0])
    for i, seed in enumerate((4, 1, 7)):
        alone, own = run(seed=seed, n=1, batch=batch)
        assert torch.equal(alone[0], whole[i]) and own.rewards[0] == info.rewards[i]
    one, _ = steer(mixture(), first, method="best_of_n", particles=1, sampler="ddim",
                   sampler_options={"eta": 1.0}, steps=6, n=3, dtype=F64)  # fmt: skip
    assert torch.equal(one, fewstep.sample(mixture(), "ddim", eta=1.0, steps=6, n=3, dtype=F64))


def test_a_given_state_begins_every_particle():
    x = torch.tensor([[1.0], [-1.0]], dtype=F64)
    made, _ = steer(mixture(), first, method="best_of_n", sampler="dpmpp_2m", particles=3, x=x,
                    steps=6)  # fmt: skip
    assert torch.equal(made, fewstep.sample(mixture(), "dpmpp_2m", x=x, steps=6))


def test_an_offset_is_added_once():
    schedule = fewstep.schedules.MeanReverting()
    den = fewstep.models.GaussianMixture([[0.5]], [0.2], [1.0], schedule)
    moved = fewstep.models.Wrapper(den)
    moved.offset = torch.tensor([[3.0]], dtype=F64)
    seen = []

    def reward(x: Any) -> Any:
        seen.append(x.clone())
        return x[:, 0]

    x, _ = steer(moved, reward, method="best_of_n", particles=4, n=2, steps=8, dtype=F64)
    plain, _ = steer(den, first, method="best_of_n", particles=4, n=2, steps=8, dtype=F64)
    assert torch.allclose(x, plain + 3.0, rtol=0.0, atol=1e-12)
    assert float(seen[0].mean()) > 2.5


def test_lost_particles_are_left_out_and_reported():
    def reward(x: Any) -> Any:
        out = first(x).clone()
        out[out > 0.0] = math.nan
        return out

    x, info = steer(mixture(), reward, method="best_of_n", particles=16, n=4, steps=10, batch=2)
    assert bool((x <= 0.0).all()) and info.lost.count > 0 and "nan" in info.lost.first
    assert info.lost.count == int((info.particle_rewards == -math.inf).sum())
    with pytest.raises(RewardError, match=r"seeds \[0, 1, 2\] has a reward: .*returned nan"):
        steer(mixture(), lambda x: x[:, 0] * math.nan, method="best_of_n", n=3, steps=2)


def test_methods_are_listed_with_their_source_and_description():
    assert "best_of_n" in steering_methods() and fewstep.guidance.steer is steer
    for name in steering_methods():
        entry = registry.get(name)
        assert "arXiv" in entry.source and len(entry.summary) > 40
        assert set(entry.needs) <= set(registry.NEEDS)


def refused(match: str, kind: type[Exception] = ArgumentError, reward: Any = first, **more: Any):
    den = more.pop("den", None) or Recorder(VPLinear())
    given = {"method": "best_of_n", "steps": 3, "shape": (2,), **more}
    with pytest.raises(kind, match=match):
        steer(den, reward, **given)
    assert not getattr(den, "calls", [])


def test_bad_input_is_refused_before_the_first_call():
    refused("method 'best_of_m'; did you mean 'best_of_n'", method="best_of_m")
    refused("particles", particles=0)
    refused("particles", particles=2.5)
    refused("batch", batch=0)
    refused("n=0", n=0)
    refused("best_of_n: unknown option 'temprature'", temprature=1.0)
    refused("sampler 'ddin'; did you mean 'ddim'", sampler="ddin")
    refused("unknown option 'etta'", sampler="ddim", sampler_options={"etta": 1.0})
    refused("dpm_adaptive.*fixed plan", sampler="dpm_adaptive", steps=None)
    refused("must be a function", reward=3)
    refused("shape=", shape=None)
    refused("pass x=", start=0.5)
    refused("batch is 2", n=2, cond=torch.zeros(3))
    refused("takes='pil'", reward=Reward(first, takes="pil"))
    refused("2 seeds were given", seeds=(1, 2), n=3)


def test_a_reward_of_the_wrong_length_stops_at_its_first_call():
    with pytest.raises(ArgumentError, match="one real number for each of the 32 samples"):
        steer(mixture(), lambda x: x[:-1, 0], method="best_of_n", n=2, steps=2)


def test_a_path_that_starts_without_signal():
    x, _ = steer(mixture(Flow(), "velocity"), first, method="best_of_n", n=4, steps=8, dtype=F64)
    assert bool(torch.isfinite(x).all())


def test_a_model_of_given_samples_sets_their_number():
    den = CFG(Recorder(VPLinear(), null=0.0), torch.tensor([1.0, 2.0, 3.0]))
    x, info = steer(den, first, method="best_of_n", steps=2, shape=(2,), cond=torch.ones(3))
    assert x.shape == (3, 2) and info.seeds == (0, 1, 2)
    refused("for 3 samples", den=CFG(Recorder(VPLinear()), torch.tensor([1.0, 2.0, 3.0])), n=2)


@pytest.mark.parametrize("method", ["best_of_n", "smc", "tds"])
def test_memory_does_not_grow_with_the_steps(method):
    """Elements of all tensors with one row per particle, at the last call of the reward."""
    import gc

    def held() -> int:
        alive = (t for t in gc.get_objects() if type(t) is torch.Tensor)
        return sum(t.numel() for t in alive if t.ndim == 2 and t.shape[0] == 36)

    def peak(steps: int) -> int:
        found = []

        def reward(x: Any) -> Any:
            found.append(held())
            return first(x)

        den = mixture()
        steer(den, reward, method=method, particles=12, n=3, steps=steps, sampler="dpmpp_2m_sde",
              sampler_options={}, grid="lam", batch=64)  # fmt: skip
        return max(found)

    peak(3)
    assert peak(12) == peak(5) > 0


def test_heavy_tails_belong_to_the_particle():
    """On a path whose noise is not normal, each particle has its own scale of the start and of a
    jump; particle 0 has that of the sample."""
    den = GaussianMixture([[0.5] * 8], 0.2, [1.0], fewstep.schedules.PFGMPP(4))
    churn: dict[str, Any] = {"steps": 6, "grid": "karras", "dtype": F64}
    one, _ = steer(den, first, method="best_of_n", particles=1, n=3, sampler="euler",
                   sampler_options={"s_churn": 4.0}, **churn)  # fmt: skip
    alone = fewstep.sample(den, "euler", s_churn=4.0, n=3, **churn)
    assert torch.equal(one, alone)
    seen = []

    def value(x: Any, t: float) -> Any:
        seen.append(x.norm(dim=1))
        return 0.0 * x[:, 0]

    steer(den, first, particles=512, sampler="euler", sampler_options={"s_churn": 4.0},
          value=value, **churn)  # fmt: skip
    # |x|^2 / (sigma^2 D) of 8 elements is a beta prime variable; 1e-3 quantile of 512 draws
    square = (seen[0] / 80.0).square() / 4.0
    assert stats.kstest(square.numpy(), stats.betaprime(4.0, 2.0).cdf).statistic < 0.086

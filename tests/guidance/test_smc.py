"""Feynman-Kac steering against a mixture whose tilt is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from problems import F64, PATHS, Recorder
from tilted import above_one, evidence, exact_value, mixture, moments, reward
from torch import Tensor

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import CFG, Reward, steer
from fewstep.guidance.populations import smc as module
from fewstep.guidance.populations.particle_filter import Weights
from fewstep.guidance.populations.resampling import log_mean_exp
from fewstep.guidance.populations.rewards import RewardError
from fewstep.models import GaussianMixture
from fewstep.plans.instructions import PlanError
from fewstep.schedules import PFGMPP, VPLinear

DEN = mixture()
ANCESTRAL = {"sampler": "ddim", "sampler_options": {"eta": 1.0}, "grid": "trailing"}
TWO_STEP: dict[str, Any] = {"sampler": "dpmpp_2m_sde", "grid": "lam"}


def run(r: Any = reward, **given: Any) -> Any:
    return steer(DEN, r, **{"method": "smc", "dtype": F64, **given})


def weighted(info: Any) -> tuple[float, float, float]:
    """Mean, variance and P(x > 1) of the weighted populations, averaged over them."""
    w, x = info.log_weights.exp(), info.particles[..., 0]
    mean = (w * x).sum(1)
    spread = (w * (x - mean[:, None]) ** 2).sum(1)
    return float(mean.mean()), float(spread.mean()), float((w * (x > 1.0)).sum(1).mean())


def check_exact(particles: int, steps: int, sampler: dict[str, Any], bound: float) -> None:
    value = exact_value(DEN.schedule)
    _, info = run(value=value, particles=particles, n=20, steps=steps, **sampler)
    ratio = info.log_evidence.exp() / evidence()
    error = float(ratio.std()) / math.sqrt(20)
    assert abs(float(ratio.mean()) - 1.0) < bound, ratio.mean()
    assert error < 0.5 * bound
    mean, spread, above = weighted(info)
    assert abs(mean - moments()[0]) < 0.06 and abs(spread - moments()[1]) < 0.06
    assert abs(above - above_one()) < 0.03


@pytest.mark.parametrize("sampler", [ANCESTRAL, TWO_STEP], ids=lambda s: s["sampler"])
def test_the_evidence_with_the_exact_value(sampler):
    """Measured: see the slow test; here 1,024 particles."""
    check_exact(1024, 60, sampler, 0.04)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [ANCESTRAL, TWO_STEP], ids=lambda s: s["sampler"])
def test_the_evidence_is_within_two_percent_at_4096_particles(sampler):
    """Measured, 20 runs of 100 steps: 1.0016 +- .0057 (ddim, eta=1), .9968 +- .0051
    (dpmpp_2m_sde)."""
    check_exact(4096, 100, sampler, 0.02)


def test_the_value_of_the_prediction_is_in_its_band_only():
    """C7 of Feynman-Kac steering with plug-in values: P(x > 1) = .50 at 500 particles where .43 is
    exact; the evidence has heavy tails, so its median is looked at."""
    _, info = run(particles=500, n=15, steps=100, **ANCESTRAL)
    assert abs(weighted(info)[2] - above_one()) < 0.12
    ratio = info.log_evidence.exp() / evidence()
    assert 0.4 < float(ratio.median()) < 1.2


@pytest.mark.parametrize("potential", ["diff", "max", "add"])
def test_potentials_multiply_to_the_reward(potential):
    """Without resampling the weights are those of the samples, whatever the values were."""
    _, info = run(
        threshold=0.0, potential=potential, temperature=0.7, particles=7, n=5, steps=6, **ANCESTRAL
    )
    wanted = info.particle_rewards / 0.7
    assert torch.allclose(info.log_weights, torch.log_softmax(wanted, 1), rtol=0.0, atol=1e-9)
    assert torch.allclose(info.log_evidence, log_mean_exp(wanted), rtol=0.0, atol=1e-9)
    assert info.ess.shape == (info.nfe + 1, 5)


def mean_evidence(**given: Any) -> tuple[float, float]:
    """Mean evidence of 4,000 populations of 4 particles at 5 steps, and its standard error."""
    _, info = run(particles=4, n=4000, steps=5, temperature=2.0, **ANCESTRAL, **given)
    z = info.log_evidence.exp()
    return float(z.mean()), float(z.std()) / math.sqrt(len(z))


@pytest.fixture(scope="module")
def base() -> tuple[float, float]:
    """The evidence of the sampler's own law, by its samples."""
    x = fewstep.sample(DEN, "ddim", eta=1.0, steps=5, grid="trailing", n=100_000, seed=10**6,
                       dtype=F64)  # fmt: skip
    z = torch.exp(reward(x) / 2.0)
    return float(z.mean()), float(z.std()) / math.sqrt(len(z))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"threshold": 1.0},
        {"threshold": 0.8, "potential": "max"},
        {"threshold": 0.8, "potential": "add"},
        {"resampling": "multinomial", "threshold": 0.7},
        {"at": (1, 3)},
        {"value": lambda x, t: -(x[:, 0] ** 2)},
        {"value": "rollout", "rollout_steps": 2},
        {"value": "rollout", "rollouts": 2, "rollout_steps": 1, "rollout_eta": 1.0, "at": (1, 3)},
        {"proposal": lambda x, t, x0: x0 + 0.3 * torch.tanh(1.0 - x0)},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_the_evidence_is_unbiased(given, base):
    """For four particles and five steps, whatever values, thresholds and proposals are. Measured
    deviations: 0.1 to 1.9 standard errors."""
    mean, error = mean_evidence(**given)
    assert abs(mean - base[0]) < 4.0 * math.hypot(error, base[1])


def test_weights_that_are_dropped_without_resampling_are_found(base, monkeypatch):
    """The trap of the released code: the check above would see it."""

    class Dropping(Weights):
        def weigh(self, values: Tensor, last: bool = False) -> None:
            self.logs = torch.zeros_like(self.logs)
            super().weigh(values, last)

    monkeypatch.setattr(module, "Weights", Dropping)
    mean, error = mean_evidence()
    assert abs(mean - base[0]) > 10.0 * math.hypot(error, base[1])


def test_only_uneven_samples_are_resampled():
    weights = Weights((1, 2), 4)
    logs = torch.tensor([[0.0, 0.1, 0.0, 0.1], [0.0, -9.0, -9.0, -9.0]], dtype=F64)
    weights.weigh(logs)
    choice = weights.resample(0.5, "systematic", 0)
    assert choice is not None and choice.tolist() == [[0, 1, 2, 3], [0, 0, 0, 0]]
    assert torch.equal(weights.logs[0], logs[0]) and not weights.logs[1].any()
    assert weights.evidence[0] == 0.0
    assert float(weights.evidence[1]) == pytest.approx(float(log_mean_exp(logs[1])))
    # the history of a value goes with its particle: all of the second sample spent 0
    weights.weigh(torch.ones(2, 4, dtype=F64), last=True)
    assert torch.allclose(weights.logs[0], torch.ones(4, dtype=F64), atol=1e-15)
    assert torch.allclose(weights.logs[1], torch.ones(4, dtype=F64), atol=1e-15)
    assert weights.resample(0.0, "systematic", 1) is None


@pytest.mark.parametrize("sampler", ["dpmpp_2m_sde", "sa_solver", "seeds_2"])
@pytest.mark.parametrize("batch", [None, 3])
def test_the_same_seeds_give_the_same_bits(sampler, batch):
    def go(**more: Any) -> Any:
        return run(particles=6, steps=6, sampler=sampler, grid="lam", threshold=0.9, **more)

    whole, info = go(seeds=(4, 1, 7))
    split, other = go(seeds=(4, 1, 7), batch=batch)
    assert torch.equal(whole, split) and torch.equal(info.log_evidence, other.log_evidence)
    for i, seed in enumerate((4, 1, 7)):
        alone, own = go(seeds=(seed,), batch=batch)
        assert torch.equal(alone[0], whole[i])
        assert own.log_evidence[0] == info.log_evidence[i]
        assert torch.equal(own.log_weights[0], info.log_weights[i])


def test_copies_part():
    """All particles but one are lost at the second call: the copies of that one differ after."""
    seen = []

    def value(x: Tensor, t: float) -> Tensor:
        seen.append(x[:, 0].clone())
        out = torch.zeros(len(x), dtype=F64)
        if len(seen) == 2:
            out[1:] = -math.inf
        return out

    run(lambda x: x[:, 0] * 0.0, value=value, particles=8, steps=8, **TWO_STEP)
    assert float(seen[2].std()) > 1e-2 and len(seen[2].unique()) == 8


@pytest.mark.parametrize("rollouts", [1, 3])
def test_the_cost_of_rollouts_is_the_counted_one(rollouts):
    den, rewards = Recorder(PATHS["vp"]), Reward(lambda x: x[:, 0])
    _, info = steer(
        den, rewards, particles=5, n=3, steps=6, shape=(2,), batch=7, value="rollout",
        rollouts=rollouts, rollout_steps=2, rollout_eta=1.0, at=(1, 4),
    )  # fmt: skip
    assert info.rows == info.predicted.rows == den.rows == 15 * (6 + 2 * 2 * rollouts)
    assert info.reward_rows == info.predicted.rewards == rewards.rows == 15 * (1 + 2 * rollouts)


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
@pytest.mark.parametrize("given", [{}, {"at": (0,)}, {"at": ()}, {"value": lambda x, t: x[:, 0]}])
def test_the_predicted_cost_is_the_counted_one(steps, given):
    den = Recorder(PATHS["vp"], null=0.0)
    rewards = Reward(lambda x: x[:, 0])
    for sampler in ("ddim", "dpmpp_2m_sde", "sde_dpm_solver_2m"):
        before = den.rows, rewards.rows
        options = {"eta": 1.0} if sampler == "ddim" else {}
        _, info = steer(
            CFG(den, 2.0), rewards, particles=5, n=3, steps=steps, shape=(2,), batch=4,
            cond=torch.ones(3), sampler=sampler, sampler_options=options, **given,
        )  # fmt: skip
        assert info.rows == info.predicted.rows == den.rows - before[0] == 30 * info.nfe
        assert info.reward_rows == info.predicted.rewards == rewards.rows - before[1]
        weighted = len(given["at"]) if "at" in given else 0 if given else info.nfe
        assert info.reward_rows == 15 * (1 + weighted)


def test_a_proposal_has_the_ratio_of_the_laws():
    """log p - log q of the next state, p and q the laws with and without the change of x0."""
    found = []

    def proposal(x: Tensor, t: float, x0: Tensor) -> Tensor:
        return x0 + torch.sin(x)

    step = module.Population.proposed_step

    def seen(self: Any, change: Tensor) -> Tensor:
        own = self.law
        noises, gain = module_innovation(self.cursor)
        mean = own.mean + gain * change
        ratio = step(self, change)
        x = self.cursor.x
        if own.std:
            theirs = own.log_prob(x) - own._replace(mean=mean).log_prob(x)
            found.append(float((ratio.flatten() - theirs).abs().max()))
            assert own.std == pytest.approx(math.hypot(*noises.values()))
            assert float(ratio.abs().max()) > 1e-3
        else:
            assert not ratio.any()
        return ratio

    from fewstep.plans.running.state_law import innovation as module_innovation

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Population, "proposed_step", seen)
        for sampler in ("ddim", "dpmpp_2m_sde", "dpmpp_sde", "er_sde"):
            options = {"eta": 1.0} if sampler == "ddim" else {}
            run(proposal=proposal, particles=6, steps=6, sampler=sampler, grid="lam",
                sampler_options=options)  # fmt: skip
    assert len(found) == 5 * 3 + 10 and max(found) < 1e-9


def test_a_lost_particle_is_left_out():
    def half(x: Tensor) -> Tensor:
        out = reward(x).clone()
        out[x[:, 0] > 0.0] = math.nan
        return out

    # the plain reward of the predictions, the broken one at the end
    x, info = run(half, value=lambda x, t: 0.0 * x[:, 0], particles=64, n=8, steps=20, **ANCESTRAL)
    assert bool((x <= 0.0).all()) and info.lost.count > 0
    share = (info.particles[..., 0] > 0.0) == (info.log_weights == -math.inf)
    assert bool(share.all())
    with pytest.raises(RewardError, match="none of the 4 particles"):
        run(lambda x: x[:, 0] * math.nan, particles=4, steps=3)


def test_the_largest_reward_of_the_population():
    x, info = run(pick="best", particles=32, n=6, steps=10)
    assert torch.equal(info.rewards, info.particle_rewards.amax(1))
    assert torch.allclose(reward(x), info.rewards)


@pytest.mark.parametrize("name", ["edm", "flow"])
def test_other_paths(name):
    den = mixture(PATHS[name], "velocity" if name == "flow" else "eps")
    value = exact_value(den.schedule)
    _, info = steer(den, reward, particles=512, n=8, steps=50, dtype=F64, value=value,
                    grid="karras" if name == "edm" else "lam")  # fmt: skip
    ratio = info.log_evidence.exp() / evidence()
    assert abs(float(ratio.mean()) - 1.0) < 0.08


def refused(match: str, kind: type[Exception] = ArgumentError, **more: Any) -> None:
    den = more.pop("den", None) or Recorder(VPLinear())
    given = {"method": "smc", "steps": 4, "shape": (2,), **more}
    with pytest.raises(kind, match=match):
        steer(den, lambda x: x[:, 0], **given)
    assert not getattr(den, "calls", [])


def test_bad_input_is_refused_before_the_first_call():
    refused("adds none: use a stochastic sampler: ddim with eta=1, .*dpmpp_2m_sde", sampler="unipc")
    refused("adds none", sampler="ddim")
    refused("adds none", sampler="auto")
    refused("temperature", temperature=0.0)
    refused("temperature", temperature=-1.0)
    refused("potential.*did you mean 'diff'", potential="dif")
    refused("threshold=1.5", threshold=1.5)
    refused("resampling.*'systematic'", resampling="sytematic")
    refused("pick", pick="worst")
    refused("at=4", at=(0, 4))
    refused("unknown value 3; allowed: mean, rollout", value=3)
    refused("are for value='rollout'", rollouts=2)
    refused("unknown option 'lambda_'", lambda_=3.0)
    refused("particles", particles=0)
    refused(
        "has none .step 0: no noise enters it", PlanError, den=Recorder(PATHS["edm"]),
        sampler="euler", sampler_options={"s_churn": 4.0, "s_tmin": 50.0}, grid="karras",
    )  # fmt: skip
    heavy = GaussianMixture([[0.0]], [1.0], [1.0], PFGMPP(128))
    refused(
        "not Gaussian", PlanError, den=heavy, shape=None, sampler="euler",
        sampler_options={"s_churn": 4.0}, proposal=lambda x, t, x0: x0,
    )  # fmt: skip


def test_answers_of_the_wrong_shape_are_told():
    with pytest.raises(ArgumentError, match=r"value\(x, t\) returned"):
        run(value=lambda x, t: x, steps=3)
    with pytest.raises(ArgumentError, match=r"proposal\(x, t, x0\) returned"):
        run(proposal=lambda x, t, x0: x0[:1], steps=3)
    with pytest.raises(ArgumentError, match="one real number for each"):
        run(lambda x: 0.0, steps=3)

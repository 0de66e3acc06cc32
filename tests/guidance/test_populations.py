"""Populations: rows, seeds, chunks, counts; and choices by weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from problems import F64, PATHS, Recorder
from torch import Tensor

import fewstep
from fewstep.checks import ArgumentError
from fewstep.engine.planning import request
from fewstep.engine.steering import Starts
from fewstep.guidance import APG, CFG
from fewstep.guidance.populations.population import Population, Setting
from fewstep.guidance.populations.resampling import (
    chosen_at,
    effective_size,
    log_mean_exp,
    resampled,
    uniforms,
)
from fewstep.models import GaussianMixture
from fewstep.models.wrapper import complete
from fewstep.plans.running.loop import NumericalError
from fewstep.schedules import VPLinear
from fewstep.schedules.grids.request import GridRequest

SCHEDULE = VPLinear()


def mixture() -> GaussianMixture:
    return GaussianMixture([[-2.0, 0.5], [1.0, 0.0]], [0.3, 0.5], [0.5, 0.5], SCHEDULE)


def setting(
    den: Any,
    sampler: str = "dpmpp_2m_sde",
    steps: int = 5,
    seeds: tuple[int, ...] = (3, 9),
    particles: int = 3,
    cond: Any = None,
    batch: int | None = None,
    **options: Any,
) -> Setting:
    den = complete(den)
    asked = request(sampler, den.schedule, options, GridRequest(steps, grid="lam"))
    begin = Starts(den, asked, None, (2,), None, F64)
    return Setting(asked.plan(), den, seeds, particles, begin, begin.noise, cond, batch, sampler)


def choices(population: Population, width: int) -> Tensor:
    """A choice that depends on the step and the seed alone."""
    rows = [
        [(7 * population.index + seed + 3 * p) % population.particles for p in range(width)]
        for seed in population.setting.seeds
    ]
    return torch.tensor(rows)


def played(made: Setting, widths: tuple[int, ...] = (3, 4, 2, 2)) -> Tensor:
    """The result of a run with a choice after every step, (S, P, 2)."""
    population = Population(made)
    while not population.done:
        population.evaluate()
        if population.index:
            population.select(choices(population, widths[(population.index - 1) % len(widths)]))
        population.step()
    return population.result.unflatten(0, (made.samples, -1))


@pytest.mark.parametrize("sampler", ["dpmpp_2m_sde", "unipc", "sa_solver"])
def test_without_choices_particle_zero_is_the_sample_of_the_seed(sampler):
    population = Population(setting(mixture(), sampler))
    while not population.done:
        population.step()
    alone = fewstep.sample(
        mixture(), sampler, steps=5, grid="lam", seeds=(3, 9), shape=(2,), dtype=F64
    )
    assert torch.equal(population.result[[0, 3]], alone)
    assert population.network_rows == 6 * population.setting.plan.nfe
    apart = population.result.unflatten(0, (2, 3)).std(1)
    assert float(apart.min()) > 1e-3


@pytest.mark.parametrize("batch", [None, 1, 2, 4, 5])
def test_the_same_bits_for_any_split(batch):
    whole = played(setting(mixture(), seeds=(3, 9, 4)))
    assert whole.shape == (3, 2, 2)
    assert torch.equal(played(setting(mixture(), seeds=(3, 9, 4), batch=batch)), whole)
    for i, seed in enumerate((3, 9, 4)):
        alone = played(setting(mixture(), seeds=(seed,), batch=batch))
        assert torch.equal(alone[0], whole[i])


@pytest.mark.parametrize("batch", [None, 4])
def test_conditions_and_scales_follow_their_sample(batch):
    den = GaussianMixture([[-2.0, 0.5], [1.0, 0.0]], [0.3, 0.5], [0.5, 0.5], SCHEDULE)
    cond, scale = torch.tensor([0, 1, 0]), torch.tensor([1.0, 2.0, 3.0], dtype=F64)
    whole = played(setting(CFG(den, scale), seeds=(3, 9, 4), cond=cond, batch=batch))
    for i, seed in enumerate((3, 9, 4)):
        guided = CFG(den, scale[i : i + 1])
        alone = played(setting(guided, seeds=(seed,), cond=cond[i : i + 1]))
        assert torch.equal(alone[0], whole[i])


def test_network_rows_are_those_of_the_network():
    den = Recorder(PATHS["vp"], null=0.0)
    made = setting(CFG(den, 2.0), cond=torch.ones(2, dtype=F64), batch=2)
    population = Population(made)
    while not population.done:
        population.step()
    assert population.network_rows == den.rows == 6 * made.network_rows() == 2 * 5 * 6
    assert max(len(x) for x, _, _ in den.calls) == 4  # two rows, with and without the condition


def test_momentum_travels_with_its_particle():
    den = APG(mixture(), 2.0, momentum=-0.5)
    cond = torch.tensor([0, 1])
    whole = played(setting(den, cond=cond))
    alone = played(setting(den, seeds=(9,), cond=cond[1:]))
    assert torch.equal(whole[1], alone[0])
    with pytest.raises(ArgumentError, match="batch=2"):
        Population(setting(den, cond=cond, batch=2))


def test_copies_part_at_the_next_noisy_step():
    for sampler, part in (("dpmpp_2m_sde", True), ("dpmpp_2m", False)):
        population = Population(setting(mixture(), sampler, particles=4))
        population.step()
        population.select(torch.zeros(2, 4, dtype=torch.int64))
        assert float(population.state.unflatten(0, (2, 4)).std(1).max()) == 0.0
        population.step()
        spread = population.state.unflatten(0, (2, 4)).std(1)
        assert float(spread.min()) > 1e-2 if part else float(spread.max()) == 0.0


def test_evaluation_is_made_once_and_moves_with_the_rows():
    den = Recorder(PATHS["vp"])
    population = Population(setting(den))
    x0 = population.x0
    choice = torch.tensor([[2, 0], [1, 1]])
    population.select(choice)
    assert torch.equal(population.x0, x0[[2, 0, 4, 4]]) and len(den.calls) == 1
    law = population.law
    population.step()
    assert len(den.calls) == 1 and law.mean.shape == (4, 2) and law.std > 0.0
    population.replace(population.cursor.x + 1.0)
    population.evaluate()
    assert len(den.calls) == 2


def test_the_law_of_the_next_state_is_the_spread_of_copies():
    population = Population(setting(mixture(), particles=4096, seeds=(5,)))
    population.step()
    population.select(torch.full((1, 4096), 7))
    law = population.law
    population.step()
    x = population.cursor.x
    z = (x - law.mean) / law.std
    assert float(law.mean.std(0).max()) < 1e-12
    assert float(z.mean().abs()) < 4.0 / math.sqrt(z.numel())
    assert abs(float(z.var()) - 1.0) < 4.0 * math.sqrt(2.0 / z.numel())


def test_a_fork_runs_on_alone():
    population = Population(setting(mixture()))
    population.step()
    other = population.fork()
    other.select(torch.tensor([[0], [1]]))
    while not other.done:
        other.step()
    assert population.index == 1 and population.particles == 3
    while not population.done:
        population.step()
    assert torch.equal(population.result, played_plain())
    assert other.network_rows == 6 + 4 * 2


def played_plain() -> Tensor:
    population = Population(setting(mixture()))
    while not population.done:
        population.step()
    return population.result


def test_numbers_that_are_not_finite_name_the_seeds():
    class Broken(Recorder):
        def raws(self, x_in: Tensor, t: Any, cond: Any = None, channels: Any = ("main",)) -> Any:
            (out,) = super().raws(x_in, t, cond, channels)
            if len(self.calls) == 3:
                out[4] = math.nan
            return (out,)

    population = Population(setting(Broken(PATHS["vp"])))
    population.step()
    population.step()
    with pytest.raises(NumericalError, match=r"seeds \[9\]"):
        population.step()


@pytest.mark.parametrize(
    "choice",
    [
        torch.tensor([0, 1]),
        torch.tensor([[0, 1]]),
        torch.tensor([[0], [3]]),
        torch.tensor([[0], [-1]]),
        torch.tensor([[0.0], [1.0]]),
        torch.zeros(2, 0, dtype=torch.int64),
        [[0], [1]],
    ],
)
def test_choices_are_checked(choice):
    with pytest.raises(ArgumentError, match="choice"):
        Population(setting(mixture())).select(choice)


def test_systematic_resampling_chooses_floor_or_ceil_and_is_unbiased():
    logs = torch.log(torch.tensor([[0.05, 0.4, 0.25, 0.3, 0.0]], dtype=F64))
    count, trials = 5, 4000
    seeds = tuple(range(trials))
    for rule in ("systematic", "multinomial"):
        found = resampled(rule, logs.expand(trials, 5).contiguous(), seeds, 2, count)
        counts = torch.nn.functional.one_hot(found, 5).sum(1).to(F64)
        wanted = count * torch.exp(logs[0])
        if rule == "systematic":
            low, high = wanted.floor(), wanted.ceil()
            assert bool(((counts >= low - 1e-9) & (counts <= high + 1e-9)).all())
            spread = (wanted - low) * (high - wanted)
        else:
            spread = wanted * (1.0 - wanted / count)
        error = (counts.mean(0) - wanted).abs()
        assert bool((error <= 4.0 * (spread / trials).sqrt() + 1e-12).all())
        assert bool((counts.var(0) - spread).abs().max() < 0.1)
        assert float(counts[:, 4].max()) == 0.0


def test_choices_do_not_depend_on_other_samples():
    logs = torch.randn(6, 37, generator=torch.Generator().manual_seed(0), dtype=F64)
    seeds = (5, 1, 2**50, 8, 13, 0)
    whole = resampled("systematic", logs, seeds, 4, 37), log_mean_exp(logs), effective_size(logs)
    for i, seed in enumerate(seeds):
        one = logs[i : i + 1]
        alone = resampled("systematic", one, (seed,), 4, 37), log_mean_exp(one), effective_size(one)
        assert all(torch.equal(a[0], w[i]) for a, w in zip(alone, whole, strict=True))
    assert float(log_mean_exp(torch.full((1, 4), -math.inf, dtype=F64))) == -math.inf
    assert abs(float(effective_size(torch.zeros(1, 8, dtype=F64))) - 8.0) < 1e-12
    u = uniforms(seeds, 1, 4096)
    assert u.shape == (6, 4096) and float(u.min()) > 0.0 and float(u.max()) < 1.0
    assert bool(((u.mean(1) - 0.5).abs() < 4.0 / math.sqrt(12 * 4096)).all())


def test_a_point_on_the_last_edge_takes_a_particle_with_weight():
    logs = torch.log(torch.tensor([[0.5, 0.5, 0.0]], dtype=F64))
    assert chosen_at(logs, torch.tensor([[0.0, 0.5, 1.0]], dtype=F64)).tolist() == [[0, 1, 1]]

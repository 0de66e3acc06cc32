"""Feynman-Kac steering: sequential Monte Carlo with the sampler's own steps, or any proposal, and
potentials from the reward (Singhal et al. 2025, arXiv 2501.06848)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...checks import ArgumentError, between, choice, described, integer, shown
from .particle_filter import POTENTIALS, Weights
from .population import Population, Setting
from .ratings import check_alive, rated
from .registry import Cost, Outcome, register
from .requirements import check_gaussian, check_predictions
from .resampling import RULES, resampled
from .rewards import Reward
from .values import Valued, Values, check_values

PICKS = ("weighted", "best")
#: ``proposal(x, t, x0)``: another prediction of x0 to propose the next state with
Proposal = Callable[[Tensor, float, Tensor], Tensor]


@dataclass(frozen=True)
class SMC(Valued):
    """Options of ``smc``, those of ``Valued`` and:

    Attributes:
        temperature: the target is ``p(x0) exp(reward / temperature)``.
        potential: ``diff``, ``max`` or ``add`` (``particle_filter``).
        threshold: particles are resampled where fewer than ``threshold`` of them are effective,
            from 0 (never) to 1 (at each weighting).
        resampling: ``systematic`` or ``multinomial``.
        at: the network calls, from 0, at which particles are weighted and resampled; None: all.
        proposal: ``proposal(x, t, x0)`` (B, *shape), another prediction to make the step with, such
            as that of a guided model; the weights correct for it. None: the sampler's own step.
        pick: what is returned of each population, a particle drawn by its weight (``weighted``) or
            the one with the largest reward (``best``).
    """

    temperature: float = 1.0
    potential: str = "diff"
    threshold: float = 0.5
    resampling: str = "systematic"
    at: tuple[int, ...] | None = None
    proposal: Proposal | None = None
    pick: str = "weighted"

    def __post_init__(self) -> None:
        super().__post_init__()
        between("temperature", self.temperature, 0.0)
        choice("potential", self.potential, POTENTIALS)
        check_resampling(self.threshold, self.resampling, self.pick)
        if self.proposal is not None and not callable(self.proposal):
            raise ArgumentError(f"proposal={shown(self.proposal)}: must be a function")


def check_resampling(threshold: float, resampling: str, pick: str) -> None:
    """Raise ArgumentError for options of resampling that are not allowed."""
    if not 0.0 <= threshold <= 1.0:
        raise ArgumentError(f"threshold={threshold}: must be from 0 to 1")
    choice("resampling", resampling, RULES)
    choice("pick", pick, PICKS)


def weighted_calls(setting: Setting, at: tuple[int, ...] | None) -> frozenset[int]:
    """The network calls at which particles are weighted. Raises ArgumentError for numbers that the
    plan has not."""
    last = setting.plan.nfe - 1
    if at is None:
        return frozenset(range(last + 1))
    return frozenset(integer("at", k, 0, last) for k in at)


def _cost(setting: Setting, options: SMC) -> Cost:
    calls = sorted(weighted_calls(setting, options.at))
    each = [setting.particles] * len(calls)
    more = Values(setting, Reward(len), options).cost(calls, each)
    rows = setting.particles * setting.network_rows() + more.rows
    return Cost(setting.samples * rows, setting.samples * (setting.particles + more.rewards))


def _check(setting: Setting, reward: Reward, options: SMC) -> None:
    weighted_calls(setting, options.at)
    check_values(setting, reward, options)
    if options.evaluates or options.proposal is not None:
        check_predictions(setting, "smc")
    if options.proposal is not None:
        check_gaussian(setting, "smc with a proposal")


@register(
    "smc",
    cost=_cost,
    source="Singhal et al. 2025, arXiv 2501.06848",
    needs=("noise",),
    check=_check,
)
def smc(setting: Setting, rewards: Reward, options: SMC) -> Outcome:
    """Weight the particles at every step by how their value changed, and resample where the weights
    are uneven: for many particles the samples are those of ``p(x0) exp(reward / temperature)``.

    Gives an unbiased estimate of ``E[exp(reward / temperature)]``, whose logarithm is
    ``info.log_evidence``, and a weighted population (``info.particles``, ``info.log_weights``).
    Weights that are not used to resample are carried on.
    """
    population = setting.population()
    weights = Weights(setting.seeds, setting.particles, options.potential)
    calls = weighted_calls(setting, options.at)
    values = Values(setting, rewards, options, options.temperature)
    while not population.done:
        if population.index in calls:
            weights.weigh(values(population) / options.temperature)
            check_alive(weights.logs, setting, rewards)
            draw = population.index
            selected = weights.resample(options.threshold, options.resampling, draw)
            if selected is not None:
                population.select(selected)
        if options.proposal is None:
            population.step()
        else:
            weights.add(_proposed(population, options.proposal))
    found = closed(population, weights, rewards, options.temperature, options.pick)
    return replace(found, rows=found.rows + values.network_rows)


def _proposed(population: Population, proposal: Proposal) -> Tensor:
    """Step with the prediction that the proposal gives; the log-ratio of densities (S, P)."""
    x0 = population.x0
    found = proposal(population.state, population.t, x0)
    if not isinstance(found, Tensor) or found.shape != x0.shape:
        raise ArgumentError(
            f"proposal(x, t, x0) returned {described(found)}; it must be a tensor like x0, "
            f"{tuple(x0.shape)}"
        )
    return population.proposed_step(found.to(x0) - x0)


def closed(
    population: Population, weights: Weights, rewards: Reward, temperature: float, pick: str
) -> Outcome:
    """Weigh the samples at the end by their reward, and pick one of each population."""
    setting, x0 = population.setting, population.result
    found = rated(rewards, x0, population)
    weights.weigh(found / temperature, last=True)
    check_alive(weights.logs, setting, rewards)
    if pick == "best":
        place = found.argmax(1, keepdim=True)
    else:
        place = resampled("multinomial", weights.logs, setting.seeds, setting.plan.nfe, 1)
    logs = weights.close()
    each = x0.reshape(population.samples, population.particles, *x0.shape[1:])
    rows = torch.arange(population.samples).to(x0.device)
    return Outcome(
        each[rows, place[:, 0].to(x0.device)],
        found.gather(1, place)[:, 0],
        population.network_rows,
        weights.evidence,
        each,
        found,
        logs,
        torch.stack(weights.ess),
    )

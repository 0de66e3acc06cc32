"""Best of n: the sample with the largest reward among n independent ones.

Its divergence from the model is ``KL = log n - (n - 1) / n`` at most (Beirami et al. 2024, arXiv
2401.01879); the law of the reward is that of the maximum of n draws, ``F^n``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .population import Setting
from .ratings import check_alive, rated
from .registry import Cost, Outcome, register
from .rewards import Reward


@dataclass(frozen=True)
class BestOfN:
    """Best of n has no options; n is ``particles``."""


def _cost(setting: Setting, options: BestOfN) -> Cost:
    count = setting.samples * setting.particles
    return Cost(count * setting.network_rows(), count)


@register("best_of_n", cost=_cost, source="Beirami et al. 2024, arXiv 2401.01879")
def best_of_n(setting: Setting, rewards: Reward, options: BestOfN) -> Outcome:
    """Draw ``particles`` samples for each seed and return the one with the largest reward.

    Works with every sampler of fixed steps. Of equal rewards the first is taken. The particles are
    drawn in turns of ``batch`` rows, so memory does not grow with their number.
    """
    best: Tensor | None = None
    top = torch.full((setting.samples,), -math.inf, dtype=torch.float64)
    all_rewards, rows = [], 0
    turn = setting.particles
    if setting.batch is not None:
        turn = max(1, setting.batch // setting.samples)
    for first in range(0, setting.particles, turn):
        population = setting.population(range(first, min(first + turn, setting.particles)))
        while not population.done:
            population.step()
        x0, rows = population.result, rows + population.network_rows
        found = rated(rewards, x0, population)
        value, place = found.max(1)
        pick = torch.arange(setting.samples) * population.particles + place
        chosen, better = x0.index_select(0, pick.to(x0.device)), value > top
        if best is None:
            best = chosen
        else:
            column = better.to(x0.device).reshape(-1, *(1,) * (x0.ndim - 1))
            best = torch.where(column, chosen, best)
        top = torch.maximum(top, value)
        all_rewards.append(found)
    every = torch.cat(all_rewards, 1)
    check_alive(every, setting, rewards)
    assert best is not None
    return Outcome(best, top, rows, particle_rewards=every)

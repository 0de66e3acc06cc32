"""One particle for each sample that draws M candidates for its next state and keeps one of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .population import Setting
from .ratings import check_alive, rated
from .registry import Cost, Outcome
from .resampling import chosen_at, uniforms
from .rewards import Reward
from .values import Valued, Values, weights_of

#: whether the candidates of the step after network call k are rated
Active = Callable[[int], bool]


def drawn(setting: Setting, active: Active) -> tuple[int, ...]:
    """The network calls after which candidates are drawn."""
    return tuple(k for k in setting.noisy_calls() if active(k))


def pick(values: Tensor, temperature: float, setting: Setting, draw: int) -> Tensor:
    """Choose one of M candidates for each sample: (S,) integers from values (S, M), with
    probability ``exp(v / a) / sum exp(v / a)``; the largest where a is 0."""
    points = uniforms(setting.seeds, draw, 1)
    return chosen_at(weights_of(values, temperature), points)[:, 0]


def run_candidates(
    setting: Setting,
    rewards: Reward,
    options: Valued,
    temperature: float,
    active: Active = lambda k: True,
) -> Outcome:
    """Run one particle per sample; at each noisy step in ``active`` draw M = ``particles``
    candidates and keep one by its value.

    The candidates of the last such step run on to the end, and the reward itself chooses. Where
    values are those of the predictions, the network call of the kept candidate is used again.
    """
    count, chosen = setting.particles, drawn(setting, active)
    population = setting.population((0,))
    values, undecided = Values(setting, rewards, options, temperature), 0
    while not population.done:
        k = population.index
        if k in chosen:
            population.evaluate()
            population.select(torch.zeros(setting.samples, count, dtype=torch.int64))
        population.step()
        if k in chosen and k != chosen[-1]:
            found = values(population)
            undecided += int((found == -torch.inf).all(1).sum())
            place = pick(found, temperature, setting, k)
            population.select(place[:, None])
    ends = population.result
    found = rated(rewards, ends, population)
    check_alive(found, setting, rewards)
    place = pick(found, temperature, setting, setting.plan.nfe)
    rows = torch.arange(setting.samples) * population.particles + place
    return Outcome(
        ends.index_select(0, rows.to(ends.device)),
        found.gather(1, place[:, None])[:, 0],
        population.network_rows + values.network_rows,
        particles=ends.reshape(setting.samples, -1, *ends.shape[1:]),
        particle_rewards=found,
        notes={"choices": len(chosen), "undecided": undecided},
    )


def cost_of_candidates(setting: Setting, options: Valued, active: Active = lambda k: True) -> Cost:
    """The cost of ``run_candidates``."""
    count, chosen = setting.particles, drawn(setting, active)
    nfe = setting.plan.nfe
    last = chosen[-1] if chosen else nfe
    many = {k + 1 for k in chosen} if options.evaluates else set()
    wide = {k for k in range(nfe) if k > last or k in many}
    rows = count * setting.network_rows(sorted(wide))
    rows += setting.network_rows([k for k in range(nfe) if k not in wide])
    rated_calls = [k + 1 for k in chosen[:-1]]
    more = Values(setting, Reward(len), options).cost(rated_calls, [count] * len(rated_calls))
    final = count if chosen else 1
    return Cost(setting.samples * (rows + more.rows), setting.samples * (more.rewards + final))

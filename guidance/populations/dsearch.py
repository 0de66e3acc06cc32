"""DSearch: beam search over trajectories, with a beam that narrows and a tree that widens.

Taken from the paper (Li et al. 2025, arXiv 2503.02039) and the documented options of its code: each
beam draws children and keeps the one with the largest value; the number of beams falls from step to
step, and the number of children grows so that their product, the cost of a step, stays about the
same; some steps do not search; alternatively (DSearch-R) the worst beams are replaced. Ours: the
steps that search are placed evenly at the code's rate, where the code draws them by chance, so that
the cost is known before; the worst beams are replaced by copies of the best ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...checks import ArgumentError, choice, integer, number
from .candidates import pick
from .population import Setting
from .ratings import check_alive, rated
from .registry import Cost, Outcome, register
from .rewards import Reward
from .values import Valued, Values, check_values

#: how the number of beams falls
DROPS = ("exponential", "linear", "quadratic", "none")
#: how the part of steps that search grows
SEARCHES = ("all", "exponential", "linear", "uniform")


@dataclass(frozen=True)
class DSearch(Valued):
    """Options of DSearch, those of ``Valued`` and:

    Args:
        width: children of each beam while there are ``particles`` beams;
            ``width particles / beams`` later, rounded down.
        keep: beams at the end.
        drop: how the number of beams falls from ``particles`` to ``keep`` over the steps
            u = i / (N - 1): "exponential" ``P (K / P)^u``, "linear", "quadratic"
            ``K + (P - K) (1 - u)^2``, or "none".
        search: part of the steps that search: "all"; "exponential" ``1 - exp(-3 u)``; "linear"
            ``u + 10 / (N - 1)``; "uniform" 0.7. The other steps have one child. The last noisy step
            always searches.
        replace: with ``drop="none"``: part of the beams, the lowest, that is replaced by the
            highest at each search (DSearch-R; 0.01 to 0.05 are usual).
    """

    width: int = 2
    keep: int = 1
    drop: str = "exponential"
    search: str = "all"
    replace: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        integer("width", self.width, 1)
        integer("keep", self.keep, 1)
        choice("drop", self.drop, DROPS)
        choice("search", self.search, SEARCHES)
        number("replace", self.replace, 0.0, 0.5)
        if self.replace > 0.0 and self.drop != "none":
            raise ArgumentError(
                f"replace={self.replace} with drop={self.drop!r}: beams are dropped or replaced, "
                "not both; give drop='none'"
            )


class Turn(NamedTuple):
    """One step that searches: the network call before it, its beams, the children of each, and the
    beams that are kept."""

    call: int
    beams: int
    width: int
    kept: int


def turns(setting: Setting, options: DSearch) -> Iterator[Turn]:
    """The steps that search."""
    steps, noisy = setting.plan.call_steps, setting.noisy_calls()
    last, beams, due = max(steps[-1], 1), setting.particles, 0.0
    for k in noisy:
        u = steps[k] / last
        before, due = due, due + _rate(options.search, u, last)
        if k != noisy[-1] and math.floor(due + 0.5) == math.floor(before + 0.5):
            continue
        width = max(1, options.width * setting.particles // beams)
        kept = min(beams, _beams(options, setting.particles, u))
        yield Turn(k, beams, width, kept)
        beams = kept


def _beams(options: DSearch, first: int, u: float) -> int:
    last = min(options.keep, first)
    if options.drop == "none":
        return first
    if options.drop == "exponential":
        value = first * (last / first) ** u
    elif options.drop == "linear":
        value = first - u * (first - last)
    else:
        value = last + (first - last) * (1.0 - u) ** 2
    return max(last, int(value + 1e-9))


def _rate(search: str, u: float, last: int) -> float:
    if search == "exponential":
        return 1.0 - math.exp(-3.0 * u)
    if search == "linear":
        return min(1.0, u + 10.0 / last)
    return 0.7 if search == "uniform" else 1.0


def _cost(setting: Setting, options: DSearch) -> Cost:
    found = list(turns(setting, options))
    after = {turn.call: turn for turn in found}
    size, rows = setting.particles, 0
    for k in range(setting.plan.nfe):
        before = after.get(k - 1)
        if before is not None:
            many = before.beams * before.width
            if before is found[-1]:
                size = many
            else:
                size = before.kept
                rows += (many if options.evaluates else size) * setting.network_rows([k])
                continue
        rows += size * setting.network_rows([k])
    calls, counts = [], []
    for turn in found[:-1]:
        calls.append(turn.call + 1)
        counts.append(turn.beams * turn.width)
    more = Values(setting, Reward(len), options).cost(calls, counts)
    final = found[-1].beams * found[-1].width if found else size
    return Cost(setting.samples * (rows + more.rows), setting.samples * (more.rewards + final))


def _check(setting: Setting, rewards: Reward, options: DSearch) -> None:
    check_values(setting, rewards, options)
    if options.keep > setting.particles:
        raise ArgumentError(
            f"keep={options.keep}: a search of particles={setting.particles} beams keeps at most "
            "as many"
        )


@register(
    "dsearch",
    cost=_cost,
    source="Li et al. 2025, arXiv 2503.02039",
    needs=("noise", "x0"),
    check=_check,
)
def dsearch(setting: Setting, rewards: Reward, options: DSearch) -> Outcome:
    """Search with ``particles`` beams for each sample: at each noisy step every beam draws children
    and keeps the best, and beams of low value are dropped.

    Values are those of the predictions, of rollouts (the paper's lookahead) or a function. The
    reward itself chooses among the children of the last noisy step. It maximises the reward and
    does not sample from a tilted law.
    """
    found = list(turns(setting, options))
    after = {turn.call: turn for turn in found}
    population = setting.population()
    values = Values(setting, rewards, options)
    while not population.done:
        turn = after.get(population.index)
        if turn is not None:
            population.evaluate()
            children = torch.arange(turn.beams).repeat_interleave(turn.width)
            population.select(children.expand(setting.samples, -1))
        population.step()
        if turn is not None and turn is not found[-1]:
            rates = values(population).reshape(-1, turn.beams, turn.width)
            population.select(survivors(rates, turn.kept, options.replace))
    ends = population.result
    rates = rated(rewards, ends, population)
    check_alive(rates, setting, rewards)
    place = pick(rates, 0.0, setting, setting.plan.nfe)
    rows = torch.arange(setting.samples) * population.particles + place
    return Outcome(
        ends.index_select(0, rows.to(ends.device)),
        rates.gather(1, place[:, None])[:, 0],
        population.network_rows + values.network_rows,
        particles=ends.reshape(setting.samples, -1, *ends.shape[1:]),
        particle_rewards=rates,
        notes={"turns": tuple(found)},
    )


def survivors(values: Tensor, kept: int, replace: float) -> Tensor:
    """The rows that go on, (S, kept), from values (S, beams, width): the best child of each beam,
    and of these the ``kept`` best in the order of the beams; then the lowest ``replace beams`` are
    replaced by the highest."""
    width = values.shape[2]
    best, child = values.max(2)
    rows = torch.arange(values.shape[1]) * width + child
    order = torch.argsort(best, dim=1, descending=True, stable=True)
    chosen = order[:, :kept].sort(1).values
    count = int(replace * kept)
    if count:
        chosen = torch.arange(kept).expand_as(order).scatter(1, order[:, -count:], order[:, :count])
    return rows.gather(1, chosen)

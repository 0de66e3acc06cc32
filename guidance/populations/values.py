"""Values of the particles on their way: what reward a noisy state may be expected to lead to.

The soft value of a state at temperature a (Uehara et al. 2025, arXiv 2501.09685) is

    V(x, t) = a log E[exp(r(x0) / a) | x_t = x]

Choices by the exact V draw from ``p(x0) exp(r(x0) / a)``; choices by an approximation do not:

    "mean"      r(E[x0 | x_t]), the reward of the prediction
    "rollout"   a log mean_k exp(r(x0_k) / a) over k runs from x to the end (a = 0: the largest)
    a function  ``value(x, t)`` (R,): exact, or fitted (``fit_value``)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentError, choice, integer, number, shown
from ...plans.plan import Plan
from ...samplers import registry as samplers
from ...schedules.grids.construction import Grid
from ...schedules.pfgmpp import PFGMPP
from .completions import completed
from .population import Population, Setting
from .ratings import rated, valued
from .registry import Cost
from .resampling import log_mean_exp
from .rewards import Reward

#: names of the approximations
VALUES = ("mean", "rollout")


@dataclass(frozen=True)
class Valued:
    """Options of methods that choose by values.

    Args:
        value: "mean", "rollout" (see the module), or a function ``value(x, t)`` of states
            (R, *shape) and their time, a number, that returns R numbers in the units of the reward;
            row ``s P + p`` is particle p of sample s.
        rollouts: runs from each state to the end, for "rollout".
        rollout_steps: steps of such a run (ddim), at most; its times are among those of the grid.
        rollout_eta: noise of these steps, 0 to 1; must be positive for several rollouts.
    """

    value: Any = "mean"
    rollouts: int = 1
    rollout_steps: int = 4
    rollout_eta: float = 0.0

    def __post_init__(self) -> None:
        if not callable(self.value):
            choice("value", self.value, VALUES)
        integer("rollouts", self.rollouts, 1)
        integer("rollout_steps", self.rollout_steps, 1)
        number("rollout_eta", self.rollout_eta, 0.0, 1.0)
        given = (self.rollouts, self.rollout_steps, self.rollout_eta)
        if self.value != "rollout" and given != (1, 4, 0.0):
            raise ArgumentError(
                f"value={shown(self.value)}: rollouts=, rollout_steps= and rollout_eta= are for "
                "value='rollout'"
            )
        if self.rollouts > 1 and self.rollout_eta == 0.0:
            raise ArgumentError(
                f"rollouts={self.rollouts} with rollout_eta=0 are the same run: give "
                "rollout_eta=1, or one rollout"
            )

    @property
    def evaluates(self) -> bool:
        """Whether rating states calls the network at them."""
        return bool(self.value == "mean")


def check_values(setting: Setting, rewards: Reward, options: Valued) -> None:
    """Raise ArgumentError for rollouts with noise on a path whose noise is not normal."""
    if options.rollout_eta > 0.0 and isinstance(setting.denoiser.schedule, PFGMPP):
        raise ArgumentError(
            f"rollout_eta={options.rollout_eta} on {setting.denoiser.schedule!r}, whose noise is "
            "not normal: use rollout_eta=0"
        )


class Values:
    """Rates the particles of a population by their values at a temperature, and counts the rows of
    its rollouts."""

    def __init__(
        self, setting: Setting, rewards: Reward, options: Valued, temperature: float = 0.0
    ) -> None:
        self.setting, self.rewards, self.options = setting, rewards, options
        self.temperature = temperature
        #: rows that the network received in rollouts
        self.network_rows = 0

    def __call__(self, population: Population) -> Tensor:
        """Return the values (S, P) of the current states, float64 on the CPU; -inf where a particle
        has none."""
        if self.options.value == "mean":
            return rated(self.rewards, population.x0, population)
        if self.options.value == "rollout":
            return self._rolled_out(population)
        return valued(self.options.value, population)

    def _rolled_out(self, population: Population) -> Tensor:
        count, size = self.options.rollouts, population.particles
        plan = rollout_plan(self.setting, population.index, self.options)
        ends = completed(population, plan, count)
        self.network_rows += ends.network_rows
        found = rated(self.rewards, ends.result, ends).reshape(-1, size, count)
        return soft_mean(found, self.temperature)

    def cost(self, calls: Sequence[int], particles: Sequence[int]) -> Cost:
        """Cost for one sample of rating ``particles[i]`` states at the network call ``calls[i]``,
        without the calls at the states themselves."""
        if self.options.value == "mean":
            return Cost(0, sum(particles) * self.setting.draws)
        if self.options.value != "rollout":
            return Cost(0, 0)
        rows, count = 0, self.options.rollouts
        for k, size in zip(calls, particles, strict=True):
            plan = rollout_plan(self.setting, k, self.options)
            rows += size * count * replace(self.setting, plan=plan).network_rows()
        return Cost(rows, count * sum(particles))


def soft_mean(values: Tensor, temperature: float) -> Tensor:
    """``a log mean exp(values / a)`` over the last axis; the largest where a is 0."""
    if values.shape[-1] == 1:
        return values[..., 0]
    if temperature == 0.0:
        return values.amax(-1)
    return temperature * log_mean_exp(values / temperature)


def rollout_plan(setting: Setting, k: int, options: Valued) -> Plan:
    """The plan from the state of network call ``k`` to the end of the run: ddim over at most
    ``rollout_steps`` of the times that are left, evenly chosen, the last among them."""
    first = setting.plan.evaluations[k].node
    left = [node for node in setting.plan.nodes if node.rho < first.rho]
    left = sorted(set(left), key=lambda node: -node.rho)
    n = min(options.rollout_steps, len(left))
    chosen = [left[-(-(j + 1) * len(left) // n) - 1] for j in range(n)]
    grid = Grid.from_nodes([first, *chosen], setting.denoiser.schedule)
    made = samplers.make_options(samplers.get("ddim"), {"eta": options.rollout_eta})
    return samplers.build("ddim", grid, made)


def weights_of(values: Tensor, temperature: float) -> Tensor:
    """Log-weights ``values / a`` (S, M); a = 0: 0 for the first of the largest, else -inf. Where a
    sample has only -inf, all are 0: each is chosen alike."""
    dead = (values == -torch.inf).all(1, keepdim=True)
    values = torch.where(dead, torch.zeros_like(values), values)
    if temperature > 0.0:
        return values / temperature
    best = values.argmax(1, keepdim=True)
    return torch.full_like(values, -torch.inf).scatter(1, best, 0.0)

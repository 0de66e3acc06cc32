"""Reward of a population as numbers (S, P) on the CPU, and what happens where a sample has none."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...checks import ArgumentError, described
from .population import Population, Setting
from .rewards import Reward, RewardError

#: ``value(x, t)``, one number for each of the states x (B, *shape) at time t
Value = Callable[[Tensor, float], Tensor]


def rated(rewards: Reward, x0: Tensor, population: Population) -> Tensor:
    """The rewards of ``x0`` (S P, *shape), the rows of ``population``, as (S, P) float64 on the
    CPU; -inf where a particle has none. Where no particle of this batch has one, all are -inf:
    ``check_alive`` says so once all have been rated."""
    try:
        found = rewards(x0)
    except RewardError:
        found = torch.full((x0.shape[0],), -math.inf, dtype=torch.float64)
    return found.to("cpu", torch.float64).reshape(population.samples, population.particles)


def check_alive(values: Tensor, setting: Setting, rewards: Reward) -> None:
    """Raise RewardError where all particles of a sample have the value -inf in ``values`` (S,
    P)."""
    dead = (values == -math.inf).all(1)
    if bool(dead.any()):
        seeds = [seed for seed, lost in zip(setting.seeds, dead.tolist(), strict=True) if lost]
        why = rewards.lost.first
        raise RewardError(
            f"none of the {values.shape[1]} particles of seeds {seeds} has a reward"
            + (f": {why}" if why else "")
        )


def valued(value: Value, population: Population) -> Tensor:
    """``value(x, t)`` of the current states as (S, P) float64 on the CPU; NaN and +inf are -inf.
    Raises ArgumentError unless it is one number per row."""
    x = population.state
    found = value(x, population.t)
    if not isinstance(found, Tensor) or found.shape != (x.shape[0],) or found.is_complex():
        raise ArgumentError(
            f"value(x, t) returned {described(found)} for {x.shape[0]} states; it must be a tensor "
            f"({x.shape[0]},) of real numbers"
        )
    out = found.detach().to("cpu", torch.float64)
    out = out.masked_fill(torch.isnan(out) | (out == math.inf), -math.inf)
    return out.reshape(population.samples, population.particles)

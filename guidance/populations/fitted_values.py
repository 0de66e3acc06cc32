"""Value functions fitted to runs of the sampler: regression of the reward on noisy states."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ...checks import ArgumentError, between, described, instance, number, shown, tensor
from ...models.exact import wide
from ...plans.plan import Plan

#: ``features(x (R, *shape))`` (R, F)
Features = Callable[[Tensor], Tensor]
#: smallest estimate of ``E[exp(r / a)]``, as a part of the largest observed
FLOOR = 1e-6


def squares(x: Tensor) -> Tensor:
    """The default features: 1, the elements and their squares, (R, 2 d + 1)."""
    flat = x.flatten(1)
    return torch.cat([torch.ones_like(flat[:, :1]), flat, flat * flat], 1)


@dataclass(frozen=True, eq=False)
class FittedValue:
    """A value function ``value(x, t)`` (R,), linear in features of x at each time of a grid and
    linear in t between them. ``weights`` (K, F), ``times`` falling.

    ``temperature`` a: V = a log(weights . features) + shift; None: V = weights . features.
    """

    times: tuple[float, ...]
    weights: Tensor
    features: Features = squares
    temperature: float | None = None
    shift: float = 0.0

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Return the values (R,) of the states x (R, *shape) at time ``t``, float64 (float32 on
        devices without it)."""
        found = _features(self.features, x)
        left, right, part = self._place(t)
        value = self._at(found, left)
        return value if part == 0.0 else (1.0 - part) * value + part * self._at(found, right)

    def _at(self, features: Tensor, i: int) -> Tensor:
        value = features @ self.weights[i].to(features)
        if self.temperature is None:
            return value
        return self.temperature * torch.log(value.clamp(min=FLOOR)) + self.shift

    def _place(self, t: float) -> tuple[int, int, float]:
        """The two times around ``t`` and the part of the way between them."""
        rising = self.times[::-1]
        i = bisect_left(rising, t)
        last = len(rising) - 1
        if i > last or (i == 0 and t < rising[0]):
            nearest = last - min(i, last)
            return nearest, nearest, 0.0
        if rising[i] == t:
            return last - i, last - i, 0.0
        part = (rising[i] - t) / (rising[i] - rising[i - 1])
        return last - i, last - i + 1, part


def fit_value(
    plan: Plan,
    states: Tensor,
    rewards: Tensor,
    *,
    temperature: float | None = None,
    features: Features = squares,
    ridge: float = 1e-6,
) -> FittedValue:
    """Fit a value function to pairs of a state and the reward of the sample that it led to (SVDD-MC
    of Li et al. 2024, arXiv 2408.08252).

        temperature None:  V = argmin sum (V(x_t) - r(x0))^2,              E[r(x0) | x_t]
        a number a:        V = a log argmin sum (u(x_t) - exp(r(x0) / a))^2,   the soft value

    The first is the soft value for small rewards, ``r / a -> 0``. The least squares are solved for
    each time of the plan by itself, in float64.

        x, info = fewstep.sample(den, "ddim", eta=1.0, n=4000, record=True, info=True)
        value = fit_value(info.plan, info.states, reward(x), temperature=1.0)
        steer(den, reward, method="svdd", value=value)

    Args:
        plan: the plan of the runs, ``info.plan``, of the sampler that will be steered.
        states: (nfe + 1, B, *shape), ``info.states``; on a mean-reverting path plus mu, because a
            value function gets states in the coordinates of the data.
        rewards: (B,); runs without a finite reward are left out.
        features: function of states (R, *shape) that returns (R, F) numbers; by default 1, the
            elements and their squares. A reward with several maxima needs features with several,
            such as radial functions or the last layer of a network.
        ridge: weight of ``|weights|^2``, as a part of the mean square of the features.

    Raises ArgumentError for arguments that do not fit.
    """
    instance("plan", plan, Plan, "a plan, as fewstep.plan makes it,")
    tensor("states", states, axes=2)
    tensor("rewards", rewards, axes=1)
    if states.shape[0] != plan.nfe + 1 or rewards.shape != states.shape[1:2]:
        raise ArgumentError(
            f"states {tuple(states.shape)} and rewards {tuple(rewards.shape)}: must be "
            f"({plan.nfe + 1}, B, *shape), the states of this plan, and (B,)"
        )
    number("ridge", ridge, 0.0)
    if not callable(features):
        raise ArgumentError(f"features={shown(features)}: must be a function of states")
    target = rewards.detach().to("cpu", torch.float64)
    kept = torch.isfinite(target)
    if not bool(kept.any()):
        raise ArgumentError("no reward is finite: nothing can be fitted")
    target, shift = target[kept], 0.0
    if temperature is not None:
        between("temperature", temperature, 0.0)
        shift = float(target.max())
        target = torch.exp((target - shift) / temperature)
    found = [
        _fitted(_features(features, state)[kept.to(state.device)], target, ridge)
        for state in states[:-1].detach()
    ]
    times = _times(plan)
    return FittedValue(times, torch.stack(found), features, temperature, shift)


def _fitted(features: Tensor, target: Tensor, ridge: float) -> Tensor:
    """Weights (F,) of the least squares."""
    x = features.to("cpu", torch.float64)
    scale = x.square().mean(0).sqrt()
    x = x / torch.where(scale > 0.0, scale, 1.0)
    gram = x.T @ x / len(x) + ridge * torch.eye(x.shape[1], dtype=x.dtype)
    solved: Tensor = torch.linalg.solve(gram, x.T @ target / len(x))
    return solved / torch.where(scale > 0.0, scale, 1.0)


def _features(features: Features, x: Tensor) -> Tensor:
    """Features (R, F), in the widest dtype of the device."""
    found = features(x.to(wide(x.device)))
    if not isinstance(found, Tensor) or found.ndim != 2 or found.shape[0] != x.shape[0]:
        raise ArgumentError(
            f"features returned {described(found)} for {x.shape[0]} states; it must be a tensor "
            f"({x.shape[0]}, F)"
        )
    return found.to(wide(x.device))


def _times(plan: Plan) -> tuple[float, ...]:
    """The times of the calls. Raises ArgumentError unless they fall."""
    times = tuple(float(e.node.t) if e.node.t is not None else math.nan for e in plan.evaluations)
    if any(not b < a for a, b in pairwise(times)):
        raise ArgumentError(
            "the times of the plan's network calls do not fall: a value is fitted at each once"
        )
    return times

"""Twisted sequential Monte Carlo (Wu et al. 2023, arXiv 2306.17775, algorithm 1): particles are
proposed along the gradient of their value, and weighted so that the target is exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import ArgumentError, between, number, shown
from ..combinations.sample_sums import inner_products
from .particle_filter import Weights
from .population import Population, Setting
from .ratings import Value, check_alive
from .registry import Cost, Outcome, register
from .requirements import check_gaussian, check_predictions
from .rewards import Reward
from .slopes import gradient, refuse_inference
from .smc import check_resampling, closed

#: ``twist(x0, variance)``, the value of the predictions x0 (B, *shape) with an error of this
#: variance in each element
Twist = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class TDS:
    """Options of ``tds``. The reward must be differentiable, such as a log-likelihood ``log p(y |
    x0)`` (B,) of tensors.

    Attributes:
        temperature: the target is ``p(x0) exp(reward / temperature)``.
        twist: ``twist(x0, variance)`` (B,), differentiable: the value of predictions whose elements
            have errors of this variance, such as ``log N(y; A x0, sigma_y^2 + variance A A^T)``;
            None: the reward of the prediction. At the end the reward itself decides.
        inflation: of ``twist``: the variance is ``inflation`` times ``v sigma^2 / (alpha^2 v +
            sigma^2)``, that of x0 given x_t for independent normal data of variance v (the model's
            ``sigma_data^2``, else 1). Default 1.
        value: ``value(x, t)`` (B,), differentiable, the value of the states themselves; instead of
            ``twist``.
        clip: the largest root mean square of the change of a prediction, in units of the data;
            None: no limit. The target stays exact.
        threshold, resampling, pick: as for ``smc``.
    """

    temperature: float = 1.0
    twist: Twist | None = None
    inflation: float | None = None
    value: Value | None = None
    clip: float | None = None
    threshold: float = 0.5
    resampling: str = "systematic"
    pick: str = "weighted"

    def __post_init__(self) -> None:
        between("temperature", self.temperature, 0.0)
        if self.clip is not None:
            between("clip", self.clip, 0.0)
        check_resampling(self.threshold, self.resampling, self.pick)
        for name in ("twist", "value"):
            given = getattr(self, name)
            if given is not None and not callable(given):
                raise ArgumentError(f"{name}={shown(given)}: must be a function")
        if self.twist is not None and self.value is not None:
            raise ArgumentError("twist= and value= exclude each other: pass one of them")
        if self.inflation is not None:
            if self.twist is None:
                raise ArgumentError(
                    f"inflation={self.inflation}: a variance can be given to twist=, a function "
                    "(x0, variance), only"
                )
            if number("inflation", self.inflation) < 0.0:
                raise ArgumentError(f"inflation={self.inflation}: must not be negative")


def _cost(setting: Setting, options: TDS) -> Cost:
    count = setting.samples * setting.particles
    own = options.twist is None and options.value is None
    return Cost(count * setting.network_rows(), count * (1 + (setting.plan.nfe if own else 0)))


def _check(setting: Setting, reward: Reward, options: TDS) -> None:
    refuse_inference("tds")
    check_predictions(setting, "tds")
    check_gaussian(setting, "tds")
    if not setting.denoiser.joinable:
        raise ArgumentError(
            "tds differentiates each call of the model alone, and this model keeps values between "
            "the calls of a run: use smc, or the model without them"
        )
    if reward.takes != "tensor" and options.twist is None and options.value is None:
        raise ArgumentError(
            f"tds differentiates the reward, and it takes {reward.takes!r}: pass twist= or value=, "
            "or use smc"
        )


@register(
    "tds",
    cost=_cost,
    source="Wu et al. 2023, arXiv 2306.17775",
    needs=("noise", "gradients"),
    check=_check,
)
def tds(setting: Setting, rewards: Reward, options: TDS) -> Outcome:
    """Move each step along the gradient of the value, through the model, and weight the particles
    for it: twisted sequential Monte Carlo, exact for many particles, for differentiable rewards.

    With the prediction D and the value V the mean of the next state is that of the sampler with ``D
    + (sigma^2 / alpha) grad V / temperature``; weights are as in ``smc`` with the potential
    ``diff``, times the ratio of the densities of both steps. A step without noise is not moved.
    Each step costs a backward pass through the model beside its call.
    """
    population = Population(setting)
    weights = Weights(setting.seeds, setting.particles)
    while not population.done:
        values, slopes = _value(population, rewards, options)
        weights.weigh(values / options.temperature)
        check_alive(weights.logs, setting, rewards)
        change = _change(population, slopes / options.temperature, options.clip)
        choice = weights.resample(options.threshold, options.resampling, population.index)
        if choice is not None:
            rows = population.select(choice)
            change = change.index_select(0, rows.to(change.device))
        weights.add(population.proposed_step(change))
    return closed(population, weights, rewards, options.temperature, options.pick)


def _value(population: Population, rewards: Reward, options: TDS) -> tuple[Tensor, Tensor]:
    """The values (S, P) of the current states, float64 on the CPU, NaN and +inf as -inf, and their
    gradients (S P, *shape)."""
    if options.value is not None:
        own, t = options.value, population.t
        population.evaluate()
        with torch.enable_grad():
            x = population.state.requires_grad_(True)
            found, slopes = gradient(lambda state: own(state, t), x, x)
    elif options.twist is not None:
        twist, variance = options.twist, _variance(population, options.inflation)
        found, slopes = population.differentiate(lambda x0: twist(x0, variance))
    else:
        found, slopes = population.differentiate(rewards.differentiable)
    values = found.to("cpu", torch.float64)
    values = values.masked_fill(torch.isnan(values) | (values == math.inf), -math.inf)
    return values.reshape(population.samples, population.particles), slopes


def _variance(population: Population, inflation: float | None) -> float:
    """Variance that the twist is given at the current node."""
    node, scale = population.call.node, population.setting.denoiser.sigma_data
    v = 1.0 if scale is None else scale * scale
    factor = 1.0 if inflation is None else inflation
    return factor * v * node.sigma**2 / (node.alpha**2 * v + node.sigma**2)


def _change(population: Population, slopes: Tensor, clip: float | None) -> Tensor:
    """``(sigma^2 / alpha) slopes``, clipped; 0 at alpha = 0, where the state says nothing of x0."""
    node = population.call.node
    change = slopes * (0.0 if node.alpha == 0.0 else node.sigma**2 / node.alpha)
    if clip is None:
        return change
    size = (inner_products((change, change))[0] / max(1, change[0].numel())).sqrt()
    return change * torch.where(size > clip, clip / size, 1.0).to(change)

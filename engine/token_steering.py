"""``steer`` for models of tokens (``guidance.discrete``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from .. import checks
from ..checks import ArgumentError
from ..fused.noise.seeded import START_STREAM
from ..fused.noise.uniforms import SeededUniforms
from ..guidance.discrete.cursor import Method as TokenMethod
from ..guidance.discrete.denoiser import BaseDiscrete, DiscreteDenoiser, complete
from ..guidance.discrete.population import TokenPlan, TokenReward, TokenSetting, noises
from ..guidance.populations import registry
from ..guidance.populations.population import Rows
from ..guidance.populations.registry import Method
from ..guidance.populations.rewards import Reward
from .arguments import check_cond
from .start_states import chosen_seeds
from .token_sampling import check_refused, length_of, method_of, prompt

#: the methods that need nothing but draws, predictions and a reward
METHODS = ("best_of_n", "dsearch", "scg", "smc", "svdd")


@dataclass(frozen=True)
class TokenStarts:
    """The start states of the rows of a population."""

    model: BaseDiscrete
    length: int
    x: Tensor | None
    device: torch.device | None

    def __call__(self, rows: Rows) -> Tensor:
        """The start states of these rows, (rows, L)."""
        if self.x is not None:
            return self.x[torch.tensor(rows.samples).to(self.x.device)]
        fields = SeededUniforms(rows.seeds, rows.particles, START_STREAM)
        where = self.device or self.model.device
        return self.model.path.start(fields(0, (self.length,), where), self.model.vocabulary)


@dataclass(frozen=True)
class TokenRun:
    """A checked request of ``steer`` on a model of tokens."""

    entry: Method
    options: Any
    setting: TokenSetting
    reward: Reward
    reason: str


def token_run(denoiser: DiscreteDenoiser, given: Mapping[str, Any]) -> TokenRun:
    """Check the arguments of ``steer``, ``given``, for a model of tokens, without a network call.

    The sampler is one of ``guidance.discrete.names()``, by default ``ancestral``; one that picks
    its number of steps is refused, since the particles of a population step together. Raises
    ArgumentError.
    """
    entry = registry.get(given["method"])
    if entry.name not in METHODS:
        raise ArgumentError(
            f"method={entry.name!r} needs states of real numbers; for tokens there are "
            f"{', '.join(name for name in registry.names() if name in METHODS)}"
        )
    chosen = registry.make_options(entry, given["options"])
    _check_options(entry.name, chosen)
    check_refused(given)
    model, reward = complete(denoiser), TokenReward.of(given["reward"])
    sampler = given["sampler"] or "auto"
    asked = {**given, "sampler": sampler, "options": dict(given["sampler_options"] or {})}
    how, reason = method_of(model, asked)
    if how.sampler.free:
        raise ArgumentError(
            f"sampler={how.sampler.name!r} picks its steps as it runs, so a population cannot go "
            "through it together"
        )
    setting = _setting(model, how, reward, given)
    reward.check_shape((2,))
    return TokenRun(entry, chosen, setting, reward, reason)


def refuse_token_reward(reward: Reward) -> None:
    """Raise ArgumentError if ``reward`` is a TokenReward: the model has real-valued states."""
    if isinstance(reward, TokenReward):
        raise ArgumentError(
            "TokenReward is for models of tokens; for real-valued samples use guidance.Reward"
        )


def _check_options(name: str, options: Any) -> None:
    if getattr(options, "proposal", None) is not None:
        raise ArgumentError(f"{name}: proposal= changes a prediction of real numbers")
    if getattr(options, "value", None) == "rollout":
        raise ArgumentError(
            f"{name}: value='rollout' runs ddim; for tokens take value='mean' with "
            "TokenReward(function, draws=...), or a function"
        )


def _setting(
    model: BaseDiscrete, how: TokenMethod, reward: Reward, given: Mapping[str, Any]
) -> TokenSetting:
    device, n, batch = checks.device(given["device"]), given["n"], given["batch"]
    x = prompt(model, given["x"], device)
    n = None if n is None else checks.integer("n", n, 1)
    seeds = chosen_seeds(n, given["seed"], given["seeds"], x)
    length = length_of(model, given["shape"]) if x is None else x.shape[1]
    check_cond(given["cond"], len(seeds))
    model.check_cond(given["cond"], len(seeds))
    if isinstance(reward, TokenReward):
        reward.states = model.path.states(model.vocabulary)
    return TokenSetting(
        cast(Any, TokenPlan(how)),
        cast(Any, model),
        seeds,
        checks.integer("particles", given["particles"], 1),
        TokenStarts(model, length, x, device),
        cast(Any, noises),
        given["cond"],
        None if batch is None else checks.integer("batch", batch, 1),
        how.sampler.name,
        reward.draws if isinstance(reward, TokenReward) else 1,
        reward.decode if isinstance(reward, TokenReward) else "sample",
    )

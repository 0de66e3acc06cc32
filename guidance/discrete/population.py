"""``TokenPopulation``: S samples of P particles of tokens, for the methods of
``guidance.populations``, which run on it as on a population of real-valued states; and
``TokenReward``, a reward of tokens.

A prediction is a law of clean tokens, not a sequence. A reward of it is that of sequences drawn
from the law, of the most likely tokens, or of the law itself (``decode``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, between, choice, integer
from ...fused.noise.uniforms import SeededUniforms
from ...plans.instructions import PlanError
from ..populations.population import Population, Rows, Setting
from ..populations.resampling import log_mean_exp
from ..populations.rewards import Reward
from .cursor import MODES, DiscreteCursor, Method
from .denoiser import BaseDiscrete
from .transition import DiscreteTransition


class TokenReward(Reward):
    """A reward function of sequences of tokens, and how predictions become sequences.

    ``decode``: ``sample``, ``draws`` sequences from the law of the clean tokens; ``argmax``, the
    most likely tokens (as the released code of SVDD does; a biased value); ``soft``, the law
    itself: then the function always gets (B, L, K) probabilities, one-hot for samples. The value of
    a prediction is the mean over its draws, or with ``temperature`` a the soft mean
    ``a log mean exp(r / a)``, the unbiased one for methods of that temperature.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        takes: str = "tensor",
        chunk: int | None = None,
        *,
        draws: int = 1,
        decode: str = "sample",
        temperature: float | None = None,
    ) -> None:
        """``function``, ``takes`` ("tensor" or "numpy") and ``chunk`` are those of ``Reward``; the
        function gets tokens (B, L), int64. Raises ArgumentError for other arguments."""
        super().__init__(function, takes, chunk)
        choice("takes", takes, ("tensor", "numpy"))
        self.draws, self.decode = integer("draws", draws, 1), choice("decode", decode, MODES)
        self.temperature = (
            temperature if temperature is None else between("temperature", temperature, 0.0)
        )
        if decode != "sample" and (draws > 1 or temperature is not None):
            raise ArgumentError(
                f"decode={decode!r}: draws= and temperature= are for decode='sample'"
            )
        #: number K of tokens of a one-hot vector; set by the population
        self.states = 0

    @override
    def __call__(self, x0: Tensor) -> Tensor:
        """The rewards (B,) of tokens (B, L), of draws (B, k, L), or of laws (B, L, K)."""
        if x0.is_floating_point():
            return super().__call__(x0)
        if self.decode == "soft":
            return super().__call__(torch.nn.functional.one_hot(x0, self.states).float())
        if x0.ndim == 2:
            return super().__call__(x0)
        found = super().__call__(x0.flatten(0, 1)).reshape(x0.shape[:2])
        if self.temperature is None:
            return found.mean(1)
        return self.temperature * log_mean_exp(found / self.temperature)


@dataclass(frozen=True)
class TokenPlan:
    """The run of every particle: ``how``, and the members of a plan that methods ask for."""

    how: Method
    evaluations: tuple[Any, ...] = ()

    @property
    def nfe(self) -> int:
        """Number of network calls."""
        return len(self.how.times) - 1

    @property
    def call_steps(self) -> tuple[int, ...]:
        """Of each network call the step that it belongs to."""
        return tuple(range(self.nfe))

    @property
    def transitions(self) -> tuple[int, ...]:
        """The steps: each of them is drawn."""
        return tuple(range(self.nfe))


@dataclass(frozen=True)
class TokenSetting(Setting):
    """The setting of a population of tokens: ``plan`` is a TokenPlan, ``denoiser`` a model of
    tokens."""

    decode: str = "sample"

    @property
    def model(self) -> BaseDiscrete:
        """The model of tokens."""
        found: Any = self.denoiser
        assert isinstance(found, BaseDiscrete)
        return found

    @property
    def how(self) -> Method:
        """The sampler with its times."""
        plan: Any = self.plan
        assert isinstance(plan, TokenPlan)
        return plan.how

    @override
    def network_rows(self, calls: Sequence[int] | None = None) -> int:
        return self.plan.nfe if calls is None else len(calls)

    @override
    def noisy_calls(self) -> tuple[int, ...]:
        return tuple(range(self.plan.nfe))

    @override
    def population(self, numbers: Sequence[int] | None = None) -> Population:
        return TokenPopulation(self, numbers)


class TokenPopulation(Population):
    """S samples of P particles of tokens, at one point of their runs."""

    setting: TokenSetting

    def __init__(self, setting: TokenSetting, numbers: Sequence[int] | None = None) -> None:
        self.setting = setting
        self.numbers = tuple(range(setting.particles) if numbers is None else numbers)
        rows = setting.rows(self.numbers)
        own = torch.tensor(rows.samples)
        #: the noises of the rows, by the numbers of the particles
        self._noises = {self.numbers: noises(rows)}
        self.tokens = DiscreteCursor(
            setting.model,
            setting.how,
            setting.start(rows),
            self._noises[self.numbers],
            None,
            batch=setting.batch,
            reuse=False,
        )
        self.tokens.share(setting.cond, own)

    @property
    @override
    def network_rows(self) -> int:  # type: ignore[override]
        """Rows that the network received until now."""
        return self.tokens.rows

    @property
    @override
    def done(self) -> bool:
        return self.tokens.done

    @property
    @override
    def index(self) -> int:
        return self.tokens.index

    @property
    @override
    def t(self) -> float:
        return self.tokens.t

    @property
    @override
    def state(self) -> Tensor:
        """The current tokens (S P, L): a copy."""
        return self.tokens.x.clone()

    @property
    @override
    def result(self) -> Tensor:
        """The tokens (S P, L) at the end of the run: a copy; PlanError before the end."""
        if not self.done:
            raise PlanError(f"step {self.index} of {self.setting.plan.nfe} is still due")
        return self.tokens.close().clone()

    @override
    def evaluate(self) -> Any:
        """The law of the clean tokens (S P, L, K); the network is called if it was not."""
        return self.tokens.probs()

    @property
    @override
    def x0(self) -> Tensor:
        """Clean tokens for a reward, given the current states: ``draws`` sequences (S P, k, L), one
        sequence (S P, L), or laws (S P, L, K)."""
        found = self.tokens.clean(self.setting.draws, self.setting.decode).transpose(0, 1)
        return found[:, 0] if self.setting.draws == 1 else found

    @property
    @override
    def law(self) -> DiscreteTransition:  # type: ignore[override]
        """The law of the next state."""
        return self.tokens.transition()

    @override
    def step(self) -> None:
        self.tokens.advance()

    @override
    def proposed_step(self, change: Tensor) -> Tensor:
        """Raises PlanError: a proposal changes a prediction of real numbers."""
        raise PlanError("proposal= changes a prediction of real numbers; tokens have none")

    @override
    def select(self, choice: Tensor) -> Tensor:
        rows, noise = self._flat(choice), None
        if choice.shape[1] != self.particles:
            self.numbers = tuple(range(choice.shape[1]))
            if self.numbers not in self._noises:
                self._noises[self.numbers] = noises(self.setting.rows(self.numbers))
            noise = self._noises[self.numbers]
        self.tokens.select(rows.to(self.tokens.x.device), noise)
        return rows

    @override
    def replace(self, x: Tensor) -> None:
        """Raises PlanError: a state of tokens is not edited."""
        raise PlanError("the states of tokens are chosen, not edited")

    @override
    def fork(self) -> TokenPopulation:
        other = copy(self)
        other.tokens = self.tokens.fork()
        return other


def noises(rows: Rows) -> SeededUniforms:
    """The uniform numbers of these rows."""
    return SeededUniforms(rows.seeds, rows.particles)

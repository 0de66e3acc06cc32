"""``Transition``, one step with noise of a plan: the row of its mean, its standard deviation, and
the log-probability of a next state."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor

from ..checks import ArgumentError
from ..schedules.node import Node
from .instructions import MAIN, PlanError


def normal_log_prob(x: Tensor, mean: Tensor, std: float) -> Tensor:
    """``log N(x; mean, std^2)`` (B,), summed over the elements of a sample, in the dtype of
    ``mean``."""
    z = ((x.to(mean) - mean) / std).flatten(1)
    return -0.5 * z.square().sum(1) - z.shape[1] * (math.log(std) + 0.5 * math.log(2.0 * math.pi))


@dataclass(frozen=True)
class Transition:
    """One step with noise, from x_index to x_{index + 1}.

    Attributes:
        index: the network call at its start (0-based), as in ``StepState.index``.
        start, end: nodes of x_index and x_{index + 1}.
        states: ``(age, c)``: c times the state of ``age`` calls before (0: x_index).
        terms: ``(age, kind, channel, c)``: c times the prediction of that kind and channel made
            ``age`` calls before this step's (0: this step's).
        std: standard deviation of the noise, positive.
        draws: the keys of its new noises in ``Plan.draws``; ``std`` is the norm of their
            coefficients, less what earlier states tell of them.
        shared: a later step reads its noise again.
    """

    index: int
    start: Node
    end: Node
    states: tuple[tuple[int, float], ...]
    terms: tuple[tuple[int, str, str, float], ...]
    std: float
    draws: tuple[int, ...]
    shared: bool = False

    @property
    def carry(self) -> float:
        """Factor of x_index."""
        return dict(self.states).get(0, 0.0)

    @property
    def draw(self) -> int:
        """The key of its noise in ``Plan.draws``; PlanError where it has several."""
        if len(self.draws) != 1:
            raise PlanError(f"the step to {self.end} has the noises {self.draws}; see draws")
        return self.draws[0]

    @property
    def memory(self) -> int:
        """Number of network calls whose predictions ``mean`` needs."""
        return 1 + max((age for age, _, _, _ in self.terms), default=0)

    @property
    def depth(self) -> int:
        """Number of states that ``mean`` needs."""
        return 1 + max((age for age, _ in self.states), default=0)

    def mean(self, x: Tensor | Sequence[Tensor], *outputs: Mapping[str, Tensor]) -> Tensor:
        """``sum carry x + sum c m`` (B, *shape), in float32 or better.

        ``x`` is the state, or the states newest first where ``depth`` is more than 1.
        ``outputs[age][kind]`` (``[kind, channel]`` where that is not main) are predictions, newest
        first: ``StepState.outputs`` are such mappings.

        ValueError for fewer outputs than ``memory`` or fewer states than ``depth``.
        """
        states = (x,) if isinstance(x, Tensor) else tuple(x)
        for what, given, needed in (
            ("outputs", outputs, self.memory),
            ("states", states, self.depth),
        ):
            if len(given) < needed:
                raise ArgumentError(
                    f"{len(given)} {what} given: this step needs the last {needed}, newest first"
                )
        wide = torch.promote_types(states[0].dtype, torch.float32)
        out: Any = sum(c * states[age].to(wide) for age, c in self.states)
        for age, kind, channel, c in self.terms:
            # a plain dict may be given for a denoiser of one channel
            key: Any = kind if channel == MAIN else (kind, channel)
            out = out + c * outputs[age][key].to(wide)
        return out if isinstance(out, Tensor) else torch.zeros_like(states[0], dtype=wide)

    def log_prob(
        self, x_next: Tensor, x: Tensor | Sequence[Tensor], *outputs: Mapping[str, Tensor]
    ) -> Tensor:
        """``log p(x_next | x, outputs)``, (B,): summed over the elements of a sample. Shapes and
        outputs as in ``mean``."""
        mean = self.mean(x, *outputs)
        if x_next.shape != mean.shape:
            raise ArgumentError(
                f"x_next has shape {tuple(x_next.shape)}, the state {tuple(mean.shape)}"
            )
        return normal_log_prob(x_next, mean, self.std)


@dataclass(frozen=True)
class Transitions(Sequence[Transition]):
    """The transitions of a plan in order, a sequence; ``none`` has ``(index, reason)`` of each
    other step, index -1 for what happens before the first network call."""

    steps: tuple[Transition, ...]
    none: tuple[tuple[int, str], ...] = ()

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Transition]:
        return iter(self.steps)

    @overload
    def __getitem__(self, index: int) -> Transition: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Transition, ...]: ...
    def __getitem__(self, index: int | slice) -> Transition | tuple[Transition, ...]:
        return self.steps[index]

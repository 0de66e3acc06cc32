"""The Gaussian transitions of a stochastic plan: means, standard deviations and log-probabilities
of its steps.

A step of a plan that adds noise is ``x_t = mean + std z`` with ``mean = carry x_s + sum c m``, m
the predictions made at x_s (and, for multistep methods, before). So

    log p(x_t | x_s, ...) = -|x_t - mean|^2 / (2 std^2) - d (log std + log(2 pi) / 2),

d the number of elements of a sample (Flow-GRPO, arXiv 2505.05470, divides by d). Means are
linear in the predictions, and log-probabilities are differentiable in them: record the states while
sampling, evaluate the network under training at these states, and compute the log-probability. A
step without noise, such as the one to sigma = 0, has no density and no transition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..checks import ArgumentError, instance
from ..schedules.node import Node
from .instructions import MAIN, Combine, Evaluate, PlanError
from .plan import Plan


@dataclass(frozen=True)
class Transition:
    """One step with noise.

    Attributes:
        index: the evaluation at its start (0-based), as in ``StepState.index``.
        start, end: nodes of x_s and x_t.
        carry: factor of x_s.
        terms: ``(age, kind, channel, c)``: the prediction of that kind and channel made ``age``
            evaluations before this step's (0: this step's).
        std: standard deviation of the noise, positive.
        draw: the key of its noise in ``Plan.draws``.
    """

    index: int
    start: Node
    end: Node
    carry: float
    terms: tuple[tuple[int, str, str, float], ...]
    std: float
    draw: int

    @property
    def memory(self) -> int:
        """Number of evaluations that ``mean`` needs."""
        return 1 + max((age for age, _, _, _ in self.terms), default=0)

    def mean(self, x: Tensor, *outputs: Mapping[str, Tensor]) -> Tensor:
        """``carry x + sum c m`` (B, *shape). ``outputs[age][kind]`` (``[kind, channel]`` where
        that is not main), newest first:
        ``StepState.outputs`` are such mappings.

        ValueError for fewer outputs than ``memory``.
        """
        if len(outputs) < self.memory:
            raise ArgumentError(
                f"{len(outputs)} outputs given: this step needs the last {self.memory}, "
                "newest first"
            )
        wide = torch.promote_types(x.dtype, torch.float32)
        out = self.carry * x.to(wide)
        for age, kind, channel, c in self.terms:
            # a plain dict may be given for a denoiser of one channel
            key: Any = kind if channel == MAIN else (kind, channel)
            out = out + c * outputs[age][key].to(wide)
        return out

    def log_prob(self, x_next: Tensor, x: Tensor, *outputs: Mapping[str, Tensor]) -> Tensor:
        """``log p(x_next | x, outputs)``, (B,): summed over the elements of a sample. Shapes and
        outputs as in ``mean``."""
        mean = self.mean(x, *outputs)
        if x_next.shape != mean.shape:
            raise ArgumentError(
                f"x_next has shape {tuple(x_next.shape)}, the state {tuple(mean.shape)}"
            )
        z = ((x_next.to(mean) - mean) / self.std).flatten(1)
        return -0.5 * z.square().sum(1) - z.shape[1] * (
            math.log(self.std) + 0.5 * math.log(2.0 * math.pi)
        )


def transitions(plan: Plan) -> tuple[Transition, ...]:
    """The transitions of ``plan``, in order.

    PlanError where a noise is used twice, or a state comes from another one than the state
    evaluated last (correctors, noise in stages, churn): such a step is not a Gaussian
    transition from state to state.
    """
    instance("plan", plan, Plan, "a plan, as fewstep.plan makes it,")
    known: dict[int, tuple[int, str, str]] = {}
    state, node, count, found = -1, plan.start, 0, []
    for i in plan.code:
        if isinstance(i, Evaluate):
            state, node, count = i.state, i.node, count + 1
            known.update({value: (count - 1, kind, channel) for value, kind, channel in i.outs})
        elif i.noise:
            found.append(_transition(i, state, node, count - 1, known))
    draws = [transition.draw for transition in found]
    if len(set(draws)) != len(draws):
        raise PlanError(
            f"{plan.name or 'plan'}: a noise is used in two places; its steps are no "
            "Gaussian transitions"
        )
    return tuple(found)


def _transition(
    i: Combine, state: int, node: Node, index: int, known: Mapping[int, tuple[int, str, str]]
) -> Transition:
    if (
        len(i.noise) != 1
        or i.node is None
        or index < 0
        or any(v != state and v not in known for v, _ in i.terms)
    ):
        raise PlanError(
            f"the step to {i.node} is no Gaussian transition from the state evaluated last"
        )
    ((draw, std),) = i.noise
    carry = sum(c for v, c in i.terms if v == state)
    terms = tuple((index - known[v][0], *known[v][1:], c) for v, c in i.terms if v != state)
    return Transition(index, node, i.node, carry, terms, abs(std), draw)

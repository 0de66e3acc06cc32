"""Noises of k-diffusion's functions: when each is drawn, for which interval, and its use.

k-diffusion draws more noises than a plan uses: Euler, Heun and DPM2 draw normals before every step,
churned or not, and the ancestral functions draw noise at eta = 0 too. The same seed gives the same
sample only if these draws are made as well. ``asks`` lists them by launch (launch k lies between
network calls k - 1 and k) with the plan's noise that each one supplies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...checks import ArgumentError, ArgumentTypeError
from ...fused.brownian.path import BrownianPath
from ...plans.plan import Plan

NoiseSampler = Callable[[Tensor, Tensor], Tensor]
#: noise for the interval between two levels, shaped like a state
Between = Callable[[float, float, Tensor], Tensor]


class Ask(NamedTuple):
    """One noise. ``start``, ``end``: its levels (None: normals without an interval, for churn).
    ``given``: the same levels as k-diffusion passes them to ``noise_sampler``. ``key``: the plan's
    noise that it supplies (None: drawn and not used)."""

    start: float
    end: float | None
    given: tuple[Tensor, Tensor] | None
    key: int | None = None


Asks = dict[int, list[Ask]]


def churn_asks(plan: Plan, starts: Sequence[int], sigmas: Tensor) -> Asks:
    """Normals before each step."""
    return {k: [Ask(node.sigma, None, None)] for k, node in zip(starts, plan.nodes, strict=False)}


def step_asks(plan: Plan, starts: Sequence[int], sigmas: Tensor) -> Asks:
    """One noise after each step that does not end at 0."""
    ends = [*starts[1:], plan.nfe]
    found: Asks = {}
    for i, (k, s, t) in enumerate(zip(ends, plan.nodes, plan.nodes[1:], strict=False)):
        if t.sigma > 0.0:
            found[k] = [Ask(s.sigma, t.sigma, (sigmas[i], sigmas[i + 1]))]
    return found


def sde_asks(plan: Plan, starts: Sequence[int], sigmas: Tensor) -> Asks:
    """As ``step_asks`` where the plan has noise, none at all elsewhere (eta = 0)."""
    return step_asks(plan, starts, sigmas) if plan.draws else {}


def two_stage_asks(plan: Plan, starts: Sequence[int], sigmas: Tensor, r: float) -> Asks:
    """One noise for [s, stage] and one for [s, t] in each step that does not end at 0; the levels
    go through their logarithm there."""
    ends, found = [*starts[1:], plan.nfe], Asks()
    for i, (first, k, s, t) in enumerate(
        zip(starts, ends, plan.nodes, plan.nodes[1:], strict=False)
    ):
        if t.sigma == 0.0:
            continue
        a, b = sigmas[i].log().neg(), sigmas[i + 1].log().neg()
        stage = a + (b - a) * r
        sigma_a, sigma_stage, sigma_b = (v.neg().exp() for v in (a, stage, b))
        middle = plan.evaluations[first + 1].node.sigma
        found[first + 1] = [Ask(s.sigma, middle, (sigma_a, sigma_stage))]
        found.setdefault(k, []).append(Ask(s.sigma, t.sigma, (sigma_a, sigma_b)))
    return found


def keyed(asks: Asks, plan: Plan) -> Asks | None:
    """The asks with the plan's noises among them, in order; None where the plan has noises that
    none of them is."""
    waiting, out = list(enumerate(plan.draws)), Asks()
    for k in sorted(asks):
        for ask in asks[k]:
            key = None
            if (
                waiting
                and waiting[0][1].start.sigma == ask.start
                and ask.end in (None, waiting[0][1].end.sigma)
            ):
                key = waiting.pop(0)[0]
            out.setdefault(k, []).append(ask._replace(key=key))
    return None if waiting else out


class Draws:
    """The noise source of a run: ``before`` draws the noises of a launch, ``take`` returns the
    plan's noises.

    With ``asks=None`` each noise is drawn when the plan reads it, for its interval.
    """

    def __init__(
        self,
        plan: Plan,
        asks: Mapping[int, Sequence[Ask]] | None,
        between: Between | None,
        sampler: NoiseSampler | None,
    ) -> None:
        self.plan, self.asks, self.between, self.sampler = plan, asks or {}, between, sampler
        self.ready: dict[int, Tensor] = {}

    def before(self, launch: int, like: Tensor) -> None:
        """Draw what belongs to this launch."""
        for ask in self.asks.get(launch, ()):
            z = self._draw(ask, like)
            if ask.key is not None:
                self.ready[ask.key] = z

    def take(self, key: int, like: Tensor) -> Tensor:
        """Noise ``key`` of the plan."""
        if key in self.ready:
            return self.ready.pop(key)
        start, end = (node.sigma for node in (self.plan.draws[key].start, self.plan.draws[key].end))
        if start < end:  # a jump to more noise stands for no interval of the way to data
            return torch.randn_like(like)
        given = [
            torch.full((), level, dtype=torch.float64, device=like.device) for level in (start, end)
        ]
        return self._draw(Ask(start, end, (given[0], given[1])), like)

    def _draw(self, ask: Ask, like: Tensor) -> Tensor:
        if ask.end is not None and ask.given is not None:
            if self.sampler is not None:
                return fitted(self.sampler(*ask.given), like)
            if self.between is not None:
                return self.between(ask.start, ask.end, like)
        return torch.randn_like(like)


def fitted(z: object, like: Tensor) -> Tensor:
    """The output of a ``noise_sampler``, cast and broadcast to the state's dtype and shape."""
    if not isinstance(z, Tensor):
        raise ArgumentTypeError(f"noise_sampler must return a tensor, got {type(z).__name__}")
    try:
        return z.to(like).expand(like.shape)
    except RuntimeError:
        raise ArgumentError(
            f"noise_sampler returned shape {tuple(z.shape)} for a state of shape "
            f"{tuple(like.shape)}"
        ) from None


class SigmaPath:
    """Increments of one Brownian motion in sigma, ``(W(s) - W(t)) / sqrt(s - t)``, for each sample
    of a batch.

    The law of k-diffusion's ``BrownianTreeNoiseSampler`` (increments that overlap are correlated as
    sigma says), and its one draw from torch's global generator for the seed; the normals themselves
    are fewstep's (``fused.brownian``), not torchsde's.
    """

    def __init__(self, plan: Plan, batch: int, low: float, high: float) -> None:
        seed = int(torch.randint(0, 2**63 - 1, []))
        gaps = [abs(draw.start.sigma - draw.end.sigma) for draw in plan.draws]
        self.low, self.high = low, high
        self.path: BrownianPath | None = None
        if gaps and batch and low < high:
            tol = min(max(0.5 * min(gaps), (high - low) * 2.0**-50), high - low)
            self.path = BrownianPath(
                tuple((seed + i) % 2**63 for i in range(batch)), low, high, tol
            )

    def __call__(self, start: float, end: float, like: Tensor) -> Tensor:
        """Unit normals for the interval between two levels."""
        if self.path is None:
            return torch.randn_like(like)
        a, b = (min(max(v, self.low), self.high) for v in sorted((start, end)))
        return self.path.increment(a, b, like).mul_(1.0 / math.sqrt(b - a))

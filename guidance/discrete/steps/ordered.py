"""Samplers that choose which masks to reveal by the network's prediction: by confidence, and by a
bound on the entropy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ....checks import ArgumentError, choice, number
from ..masked import Masked
from ..registry import Now, register
from ..transition import DiscreteTransition, OrderedTransition, highest

#: what masks are ordered by
ORDERS = ("drawn", "probability", "margin", "entropy")


@dataclass(frozen=True)
class Confidence:
    """Options of ``confidence``.

    by: ``drawn``, the probability of the token that was drawn (MaskGIT); ``probability``, that of
        the most likely token; ``margin``, its distance to the second; ``entropy``, the smallest.
    temperature: of Gumbel noise on the log-probability of a drawn token, times t; for ``drawn``.
    """

    by: str = "drawn"
    temperature: float = 0.0

    def __post_init__(self) -> None:
        choice("by", self.by, ORDERS)
        number("temperature", self.temperature, 0.0)
        if self.temperature > 0.0 and self.by != "drawn":
            raise ArgumentError(
                f"temperature={self.temperature!r}: only by='drawn' has a random order"
            )


def _why(options: Confidence) -> str:
    return "the order depends on all drawn tokens" if options.by == "drawn" else ""


@register(
    "confidence",
    source="Chang et al. 2022, arXiv 2202.04200, sec. 3.2 (by='drawn')",
    paths=("masked",),
    log_prob=_why,
)
def confidence(now: Now, options: Confidence) -> DiscreteTransition:
    """The most certain masks are revealed, as many as the path expects: ``round((1 - alpha_s) M)``
    of the M masks of the start stay, and at least one is revealed.

    ``drawn`` prefers likely tokens, so the samples are sharper than the model's law, even with an
    exact model and one token a step. The other orders depend on the state only: a step is a product
    of the laws p of the revealed positions, has an exact log-probability, and with one token a step
    the samples have the law of an exact model.
    """
    hidden = _hidden(now)
    begun = (~now.given).sum(1)
    left = torch.round(begun * (1.0 - now.path.alpha(now.s))).to(torch.int64)
    counts = (hidden.sum(1) - left).clamp(min=1)
    if options.by == "drawn":
        heat = options.temperature * now.t
        return OrderedTransition(now.probs, now.t, now.s, now.x, hidden, counts, heat)
    return now.law(_revealed(now, highest(_certainty(now.probs, options.by), hidden, counts)))


@dataclass(frozen=True)
class Bound:
    """Options of ``entropy_bound``.

    gamma: bound in nats, >= 0. 0 reveals one token a call, and with it those that are certain;
        None, no bound, all at once.
    by: order of the masks, as of ``confidence`` without ``drawn``.
    """

    gamma: float | None = 0.1
    by: str = "entropy"

    def __post_init__(self) -> None:
        choice("by", self.by, ORDERS[1:])
        if self.gamma is not None:
            number("gamma", self.gamma, 0.0)


@register(
    "entropy_bound",
    source="Ben-Hamu et al. 2025, arXiv 2505.24857 (EB-Sampler)",
    paths=("masked",),
    free=True,
)
def entropy_bound(now: Now, options: Bound) -> DiscreteTransition:
    """The most certain masks are revealed while the sum of their entropies without the largest is
    at most gamma, a bound on the error of drawing them independently.

    At least one mask is revealed a call, so there are at most L calls; the number depends on the
    data. The choice depends on the state only, so a step has an exact log-probability. With gamma
    = 0 and an exact model the samples have the model's law.
    """
    hidden = _hidden(now)
    entropy = torch.special.entr(now.probs).sum(-1)
    rank = torch.where(hidden, _certainty(now.probs, options.by), -math.inf)
    order = torch.argsort(rank, dim=1, descending=True, stable=True)
    sorted_entropy = entropy.gather(1, order) * hidden.gather(1, order)
    spent = sorted_entropy.cumsum(1) - sorted_entropy.cummax(1).values
    bound = math.inf if options.gamma is None else options.gamma
    # the error of the sums alone must not hold tokens back that are certain
    slack = 8.0 * torch.finfo(spent.dtype).eps * now.x.shape[1]
    # never falls along the order, and is 0 for the first
    chosen = torch.zeros_like(hidden).scatter(1, order, spent <= bound + slack) & hidden
    return now.law(_revealed(now, chosen))


def _hidden(now: Now) -> Tensor:
    assert isinstance(now.path, Masked)
    return now.x == now.path.mask_of(now.probs.shape[-1])


def _certainty(probs: Tensor, by: str) -> Tensor:
    """How certain each position is, (B, L): larger is more."""
    if by == "entropy":
        entropy: Tensor = torch.special.entr(probs).sum(-1)
        return -entropy
    first, second = probs.topk(2, dim=-1).values.unbind(-1)
    return first if by == "probability" else first - second


def _revealed(now: Now, chosen: Tensor) -> Tensor:
    """The law in which the masks ``chosen`` get a token of p and the others stay."""
    assert isinstance(now.path, Masked)
    move = chosen.to(now.probs)
    return now.path.revealing(now.probs, now.x, move, 1.0 - move)

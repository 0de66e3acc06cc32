"""``DiscreteTransition``, the law of the next tokens of a step, and ``OrderedTransition``, a step
that has draws but no log-probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError, FewstepError, described

#: ``uniforms(k)`` gives the k-th field of uniform numbers (B, L) of a step
Uniforms = Callable[[int], Tensor]


class NoLogProbError(FewstepError, ValueError):
    """The log-probability of a step that has none in closed form."""


def draw(probs: Tensor, uniforms: Tensor) -> Tensor:
    """Draw a token from each law by inversion: the first v with ``P(0) + .. + P(v) > u sum(P)``.

    ``probs`` (..., K), not necessarily normalised; ``uniforms`` (...) in (0, 1). A token of
    probability 0 is never drawn."""
    return draws(probs, uniforms[..., None])[..., 0]


def draws(probs: Tensor, uniforms: Tensor) -> Tensor:
    """``draw`` of several tokens from each law: ``uniforms`` (..., k), result (..., k)."""
    total = probs.cumsum(-1).contiguous()
    most = total[..., -1:]
    found = torch.searchsorted(total, (uniforms.to(total) * most).contiguous(), right=True)
    # u sum(P) may be rounded up to sum(P): then the last token with a probability
    last = torch.searchsorted(total, most.contiguous())
    # of a law with NaN any token, which keeps indices valid until the run is checked
    return torch.minimum(found, last).clamp(max=probs.shape[-1] - 1)


@dataclass(frozen=True)
class DiscreteTransition:
    """One step from the state at time t to that at time s: given the state, the positions are
    independent, with the law ``probs``.

    Attributes:
        probs: (B, L, K), non-negative, each row with the sum 1.
        t, s: times of the state and of the next one.
    """

    probs: Tensor
    t: float
    s: float

    #: True if ``log_prob`` exists
    has_log_prob = True

    def sample(self, uniforms: Uniforms | Tensor) -> Tensor:
        """Draw the next tokens, (B, L), int64. ``uniforms``: numbers in (0, 1), (B, L), or a
        function that gives the k-th such field of the step."""
        return draw(self.probs, uniforms if isinstance(uniforms, Tensor) else uniforms(0))

    def log_prob(self, x_next: Tensor) -> Tensor:
        """Log-probability of the next tokens ``x_next`` (B, L), (B,): the sum over positions; -inf
        for tokens that the step does not reach. Raises ArgumentError for another shape."""
        if x_next.shape != self.probs.shape[:2] or x_next.is_floating_point():
            raise ArgumentError(
                f"x_next must be tokens {tuple(self.probs.shape[:2])}, got {described(x_next)}"
            )
        return self.probs.gather(-1, x_next[..., None].to(torch.int64))[..., 0].log().sum(1)

    def select(self, rows: Tensor) -> Self:
        """The transition of those rows of the batch."""
        return replace(self, probs=self.probs[rows])


@dataclass(frozen=True)
class OrderedTransition(DiscreteTransition):
    """A step that reveals the masks whose *drawn* token is the most likely.

    A token is drawn for every mask from ``probs``; the ``counts[b]`` masks with the largest
    ``log P(token) + temperature g`` keep theirs, where g is Gumbel noise. Which masks are revealed
    depends on all drawn tokens, also on those that are not kept, so the law of the next state is
    no product and its log-probability has no closed form.

    Attributes:
        probs: (B, L, K), law of the token that would be revealed; one-hot at other positions.
        x: (B, L), the state.
        hidden: (B, L), True at masks.
        counts: (B,), number of masks to reveal.
        temperature: of the order; 0 leaves the Gumbel noise out.
    """

    x: Tensor
    hidden: Tensor
    counts: Tensor
    temperature: float

    has_log_prob = False

    @override
    def sample(self, uniforms: Uniforms | Tensor) -> Tensor:
        field = (lambda k: uniforms) if isinstance(uniforms, Tensor) else uniforms
        if isinstance(uniforms, Tensor) and self.temperature > 0.0:
            raise ArgumentError("a random order needs two fields of uniform numbers: a function")
        tokens = draw(self.probs, field(0))
        value = self.probs.gather(-1, tokens[..., None])[..., 0].log()
        if self.temperature > 0.0:
            value = value - self.temperature * (-field(1).to(value).log()).log()
        return torch.where(highest(value, self.hidden, self.counts), tokens, self.x)

    @override
    def log_prob(self, x_next: Tensor) -> Tensor:
        """Raises NoLogProbError."""
        raise NoLogProbError(
            "the order is that of drawn tokens, which has no log-probability in closed form; an "
            "order by 'probability', 'margin' or 'entropy' has one"
        )

    @override
    def select(self, rows: Tensor) -> Self:
        return replace(
            self,
            probs=self.probs[rows],
            x=self.x[rows],
            hidden=self.hidden[rows],
            counts=self.counts[rows],
        )


def highest(value: Tensor, among: Tensor, counts: Tensor) -> Tensor:
    """True (B, L) at the ``counts[b]`` positions of the largest ``value`` (B, L) among those where
    ``among`` is True; of equal values the first position."""
    value = torch.where(among, value, torch.full_like(value, -torch.inf))
    # masks before the others even where their value is -inf
    order = torch.argsort(value, dim=1, descending=True, stable=True)
    outside = (~among.gather(1, order)).to(torch.uint8)
    order = order.gather(1, torch.argsort(outside, dim=1, stable=True))
    places = torch.arange(value.shape[1], device=value.device)
    chosen = (places < counts[:, None]) & among.gather(1, order)
    return torch.zeros_like(among).scatter(1, order, chosen)

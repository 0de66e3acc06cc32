"""Exact models of token sequences whose posterior ``P(x0_l = i | x_t)`` is a finite sum, on every
path: independent tokens, a table of all sequences, and a Markov chain."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, described
from .denoiser import BaseDiscrete, Condition
from .path import DiscretePath


def _law(name: str, value: Any, axes: int | None = None) -> Tensor:
    """``value`` as a float64 tensor of probabilities. Raises ArgumentError for NaN, negative
    numbers and another number of axes."""
    try:
        found = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentError(f"{name} must be numbers, got {described(value)}") from None
    if (axes is not None and found.ndim != axes) or found.numel() == 0:
        raise ArgumentError(f"{name} must have {axes or 'some'} axes, got {tuple(found.shape)}")
    if not bool((torch.isfinite(found) & (found >= 0.0)).all()):
        raise ArgumentError(f"{name} must be finite numbers >= 0")
    return found


def _sums(name: str, law: Tensor) -> Tensor:
    """``law`` if its rows have the sum 1 to 1e-6, normalised. Raises ArgumentError otherwise."""
    total = law.sum(-1, keepdim=True)
    if not bool(((total - 1.0).abs() < 1e-6).all()):
        raise ArgumentError(
            f"{name}: the probabilities must have the sum 1, got {total.flatten().tolist()[:4]}"
        )
    return law / total


class ExactTokens(BaseDiscrete):
    """Base class: a subclass defines ``posterior``, from the likelihoods of the state.

    A state that the data cannot lead to, which a step that reveals several tokens may reach, gives
    all tokens the same probability."""

    length: int

    def posterior(self, likelihood: Tensor) -> Tensor:
        """``P(x0_l = i | x_t)`` (B, L, S) times a positive factor, for ``likelihood`` (B, L, S),
        float64."""
        raise NotImplementedError

    @property
    @override
    def time_free(self) -> bool:  # type: ignore[override]
        """True on a masked path, where the posterior does not depend on the time."""
        return self.path.name == "masked"

    @override
    def x0_logits(self, x: Tensor, t: float, cond: Condition = None) -> Tensor:
        if x.shape[1] != self.length:
            raise ArgumentError(f"the state has {x.shape[1]} positions, the model {self.length}")
        found = self.posterior(self.path.likelihood(x, t, self.vocabulary))
        possible = found.sum(-1, keepdim=True) > 0.0
        return torch.where(possible, found, torch.ones_like(found)).log()


class IndependentTokens(ExactTokens):
    """Tokens that are independent: ``P(x0) = prod_l probs[l, x0_l]``."""

    def __init__(self, probs: Any, path: DiscretePath) -> None:
        """``probs``: (L, S), each row with the sum 1. Raises ArgumentError otherwise."""
        self.path, self.probs = path, _sums("probs", _law("probs", probs, 2))
        self.length, self.vocabulary = self.probs.shape

    @override
    def posterior(self, likelihood: Tensor) -> Tensor:
        return self.probs.to(likelihood) * likelihood


class TableTokens(ExactTokens):
    """All sequences with their probabilities, for short ones: ``P(x0) = table[x0_1, .., x0_L]``."""

    def __init__(self, table: Any, path: DiscretePath) -> None:
        """``table``: (S, S, .., S) with L axes and the sum 1, at most 2^20 entries. Raises
        ArgumentError otherwise."""
        found = _law("table", table)
        if found.ndim == 0 or len(set(found.shape)) != 1 or found.numel() > 1 << 20:
            raise ArgumentError(
                f"table must be (S, .., S) with at most 2^20 entries, got {tuple(found.shape)}"
            )
        self.path, self.length, self.vocabulary = path, found.ndim, found.shape[0]
        self.table = _sums("table", found.reshape(-1)).reshape(found.shape)

    @override
    def posterior(self, likelihood: Tensor) -> Tensor:
        batch, length, size = likelihood.shape
        joint = self.table.to(likelihood).expand(batch, *self.table.shape)
        for place in range(length):
            shape = [batch, *(size if axis == place else 1 for axis in range(length))]
            joint = joint * likelihood[:, place].reshape(shape)
        axes = range(1, length + 1)
        marginals = [
            joint.sum([a for a in axes if a != place + 1]) if length > 1 else joint
            for place in range(length)
        ]
        return torch.stack(marginals, dim=1)


class MarkovTokens(ExactTokens):
    """A Markov chain: ``P(x0) = initial[x0_1] prod_l transition[x0_{l-1}, x0_l]``; the posterior is
    that of the forward-backward algorithm."""

    def __init__(self, initial: Any, transition: Any, length: int, path: DiscretePath) -> None:
        """``initial``: (S,); ``transition``: (S, S), row = the token before. Raises ArgumentError
        unless all rows have the sum 1."""
        self.initial = _sums("initial", _law("initial", initial, 1))
        self.transition = _sums("transition", _law("transition", transition, 2))
        size = self.initial.shape[0]
        if self.transition.shape != (size, size):
            raise ArgumentError(
                f"transition must be {(size, size)}, got {tuple(self.transition.shape)}"
            )
        if length < 1:
            raise ArgumentError(f"length={length}: must be at least 1")
        self.path, self.length, self.vocabulary = path, length, size

    @override
    def posterior(self, likelihood: Tensor) -> Tensor:
        forward, backward = self._messages(likelihood)
        return torch.stack([f * b for f, b in zip(forward, backward, strict=True)], dim=1)

    def _messages(self, likelihood: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Messages of both directions, each (B, S), normalised at every position."""
        matrix = self.transition.to(likelihood)
        forward = [_normal(self.initial.to(likelihood) * likelihood[:, 0])]
        for place in range(1, self.length):
            ahead = _product(forward[-1], matrix)
            forward.append(_normal(ahead * likelihood[:, place]))
        backward = [torch.ones_like(forward[0])]
        for place in range(self.length - 1, 0, -1):
            backward.append(_normal(_product(backward[-1] * likelihood[:, place], matrix.T)))
        return forward, backward[::-1]

    def log_prob(self, x0: Tensor) -> Tensor:
        """``log P(x0)`` (B,), float64, of sequences (B, L)."""
        steps = self.transition.log()[x0[:, :-1], x0[:, 1:]].sum(1)
        return self.initial.log()[x0[:, 0]] + steps

    @property
    def entropy(self) -> float:
        """Entropy of a sequence, in nats."""
        law, total = self.initial, _entropy(self.initial)
        for _ in range(self.length - 1):
            total += float((law * torch.special.entr(self.transition).sum(1)).sum())
            law = law @ self.transition
        return total


def _entropy(law: Tensor) -> float:
    return float(torch.special.entr(law).sum())


def _product(row: Tensor, matrix: Tensor) -> Tensor:
    """``row @ matrix`` (B, S) with sums whose order does not depend on the batch."""
    return (row[:, :, None] * matrix).sum(1)


def _normal(row: Tensor) -> Tensor:
    total = row.sum(-1, keepdim=True)
    return torch.where(total > 0.0, row / total, row)

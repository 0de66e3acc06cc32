"""``DiscretePath``, how the tokens of a sequence are noised: each position by itself, by

    q(x_t = v | x0 = i) = alpha(t) 1[v = i] + (1 - alpha(t)) pi(v),        t in [0, 1],

with pi the mask token (``Masked``) or all tokens alike (``Uniform``). Its rates are those of the
chain with ``beta = -alpha'/alpha``, and from time s to time t > s a token is kept with probability
``alpha(t) / alpha(s)``.

A state is an integer tensor (B, L). ``p`` below is the law of each clean token given the state,
``p[b, l, i] = P(x0_l = i | x_t)``, (B, L, K): K is the number of tokens of a state, the mask token
included, to which p gives 0. The concrete score of SEDD (Lou et al. 2023, arXiv 2310.16834) is
``score[b, l, v] = q_t(x with x_l replaced by v) / q_t(x)``, (B, L, K).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import ArgumentError, described
from .survival import Survival, check_time, survival


@dataclass(frozen=True)
class DiscretePath(ABC):
    """Base class of ``Masked`` and ``Uniform``.

    Attributes:
        keep: ``alpha``, the probability that a token is kept: a name (``survival.NAMED``), a
            ``Survival`` or a function of t.
    """

    keep: Survival | str = "linear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", survival(self.keep))

    def alpha(self, t: float) -> float:
        """Probability that a token is kept at time ``t``. Raises ArgumentError outside [0, 1]."""
        assert isinstance(self.keep, Survival)
        found = self.keep.alpha(check_time(t))
        return found if t > 0.0 else 1.0

    def dalpha(self, t: float) -> float:
        """d alpha / dt at time ``t``."""
        assert isinstance(self.keep, Survival)
        return self.keep.dalpha(check_time(t))

    @property
    @abstractmethod
    def name(self) -> str:
        """``masked`` or ``uniform``."""

    @abstractmethod
    def states(self, vocabulary: int) -> int:
        """Number K of tokens that a state may hold, for ``vocabulary`` tokens of data."""

    @abstractmethod
    def start(self, uniforms: Tensor, vocabulary: int) -> Tensor:
        """The state at t = 1, (B, L), from uniform numbers (B, L)."""

    @abstractmethod
    def noised(
        self, x0: Tensor, t: float, keeps: Tensor, values: Tensor, vocabulary: int
    ) -> Tensor:
        """A draw from ``q(x_t | x0)``, (B, L), with uniform numbers (B, L) for what is kept, and
        for the values of the others."""

    @abstractmethod
    def likelihood(self, x: Tensor, t: float, vocabulary: int) -> Tensor:
        """``q(x_t = x_l | x0_l = i)`` (B, L, S) for i = 0 .. S - 1, up to a factor of each
        position, float64."""

    @abstractmethod
    def step(self, p: Tensor, x: Tensor, t: float, s: float) -> Tensor:
        """Law of each token at time s < t given the state and ``p``, (B, L, K): the exact step
        where the tokens of x0 are independent given the state."""

    @abstractmethod
    def scores(self, p: Tensor, x: Tensor, t: float) -> Tensor:
        """Concrete score (B, L, K) of the law ``p``; 1 at the token of the state, and 0 where the
        step of one position is not possible."""

    @abstractmethod
    def score_step(self, scores: Tensor, x: Tensor, t: float, s: float) -> Tensor:
        """Analytic step of SEDD, (B, L, K): ``P(v) prop [e^{-ds Q} score]_v q(x_t = x | x_s = v)``
        with negative values set to 0. It is ``step`` where the scores are exact."""

    @abstractmethod
    def rates(self, p: Tensor, x: Tensor, t: float) -> Tensor:
        """Rates (B, L, K) of the jumps of the reversed chain to other tokens; 0 at the token of the
        state (Campbell et al. 2022, arXiv 2205.14987, prop. 3)."""

    def x0_of_scores(self, scores: Tensor, x: Tensor, t: float) -> Tensor:
        """The law ``p`` (B, L, K) of which ``scores`` are the concrete scores: the analytic step to
        t = 0."""
        return self.score_step(scores, x, t, 0.0)

    def kept(self, t: float, s: float) -> float:
        """``alpha(t) / alpha(s)``, the probability that a token is kept from s to t > s. Raises
        ArgumentError unless alpha falls from s to t."""
        late, early = self.alpha(t), self.alpha(s)
        if not late < early:
            raise ArgumentError(
                f"alpha({t})={late!r} and alpha({s})={early!r}: a step goes from t to s < t, and "
                "alpha must be larger at s"
            )
        return late / early

    def finite(self, t: float, what: str) -> float:
        """``alpha(t)``. Raises ArgumentError if it is 0, where ``what`` does not exist."""
        found = self.alpha(t)
        if found == 0.0:
            raise ArgumentError(
                f"alpha({t}) = 0: {what} do not exist there; take alpha=Linear(1e-3) or "
                "'geometric', or times= that begin below 1"
            )
        return found

    def check_tokens(self, x: Tensor, vocabulary: int, name: str = "x") -> Tensor:
        """Return ``x`` as int64 if it is an integer tensor (B, L) of tokens of a state, else raise
        ArgumentError. The range is checked on the CPU only."""
        kinds = (torch.int64, torch.int32, torch.int16, torch.uint8)
        if not isinstance(x, Tensor) or x.dtype not in kinds or x.ndim != 2 or 0 in x.shape:
            raise ArgumentError(
                f"{name} must be tokens, an integer tensor (batch, length), got {described(x)}"
            )
        top = self.states(vocabulary) - 1
        if x.device.type == "cpu" and not (int(x.min()) >= 0 and int(x.max()) <= top):
            raise ArgumentError(
                f"{name} holds tokens {int(x.min())} .. {int(x.max())}; allowed: 0 .. {top}"
            )
        return x.to(torch.int64)


def one_hot(x: Tensor, like: Tensor) -> Tensor:
    """One-hot vectors (B, L, K) of the tokens ``x`` in the form of ``like`` (B, L, K)."""
    return torch.zeros_like(like).scatter_(-1, x[..., None], 1.0)

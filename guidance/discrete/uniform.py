"""``Uniform``, the path on which a token is replaced by any token with equal probability."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from .path import DiscretePath, one_hot


@dataclass(frozen=True)
class Uniform(DiscretePath):
    """``q(x_t = v | x0 = i) = alpha(t) 1[v = i] + (1 - alpha(t)) / S`` (Austin et al. 2021, arXiv
    2107.03006, app. A.2.1). There is no mask token; K = S."""

    @property
    @override
    def name(self) -> str:
        return "uniform"

    @override
    def states(self, vocabulary: int) -> int:
        return vocabulary

    @override
    def start(self, uniforms: Tensor, vocabulary: int) -> Tensor:
        # exact: a uniform number is (k + 1/2) / 2^23
        return ((uniforms * 2.0**23).to(torch.int64) * vocabulary) >> 23

    @override
    def noised(
        self, x0: Tensor, t: float, keeps: Tensor, values: Tensor, vocabulary: int
    ) -> Tensor:
        x0 = self.check_tokens(x0, vocabulary, "x0")
        return torch.where(keeps < self.alpha(t), x0, self.start(values, vocabulary))

    @override
    def likelihood(self, x: Tensor, t: float, vocabulary: int) -> Tensor:
        alpha = self.alpha(t)
        hit = x[..., None] == torch.arange(vocabulary, device=x.device)
        return alpha * hit.to(torch.float64) + (1.0 - alpha) / vocabulary

    def _weights(self, p: Tensor, x: Tensor, t: float) -> Tensor:
        """``p(i) / q(x_t = x | x0 = i)``, (B, L, S)."""
        alpha, own = self.alpha(t), one_hot(x, p)
        return p / (alpha * own + (1.0 - alpha) / p.shape[-1])

    @override
    def step(self, p: Tensor, x: Tensor, t: float, s: float) -> Tensor:
        """``P(k) = sum_i p(i) q(x_t | x_s = k) q_s(k | i) / q_t(x_t | i)``; at s = 0 it is p."""
        a, early, size = self.kept(t, s), self.alpha(s), p.shape[-1]
        w = self._weights(p, x, t)
        back = early * w + (1.0 - early) / size * w.sum(-1, keepdim=True)
        return (a * one_hot(x, p) + (1.0 - a) / size) * back

    @override
    def scores(self, p: Tensor, x: Tensor, t: float) -> Tensor:
        """``sum_i p(i) q_t(v | i) / q_t(x | i)``; 1 at the token of the state."""
        alpha, w = self.finite(t, "concrete scores"), self._weights(p, x, t)
        return alpha * w + (1.0 - alpha) / p.shape[-1] * w.sum(-1, keepdim=True)

    @override
    def score_step(self, scores: Tensor, x: Tensor, t: float, s: float) -> Tensor:
        """``e^{-ds Q}`` is ``score/a - (1/a - 1) mean(score)`` with ``a = alpha_t/alpha_s``."""
        self.finite(t, "concrete scores")
        a, size = self.kept(t, s), scores.shape[-1]
        back = (scores - (1.0 - a) * scores.mean(-1, keepdim=True)) / a
        out = back.clamp(min=0.0) * (a * one_hot(x, scores) + (1.0 - a) / size)
        return out / out.sum(-1, keepdim=True)

    @override
    def rates(self, p: Tensor, x: Tensor, t: float) -> Tensor:
        """``beta/S score(v)`` with ``beta = -alpha'/alpha``; 0 at the token of the state."""
        beta = -self.dalpha(t) / self.finite(t, "rates of jumps")
        jumps = self.scores(p, x, t) * (beta / p.shape[-1])
        return jumps.scatter(-1, x[..., None], 0.0)

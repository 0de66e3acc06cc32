"""``Masked``, the absorbing path: a token becomes the mask token and stays it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, integer
from .path import DiscretePath, one_hot


@dataclass(frozen=True)
class Masked(DiscretePath):
    """``q(x_t = x0) = alpha(t)``, ``q(x_t = mask) = 1 - alpha(t)`` (Austin et al. 2021, arXiv
    2107.03006; Sahoo et al. 2024, arXiv 2406.07524).

    Attributes:
        keep: ``alpha``, as in DiscretePath.
        mask: the mask token. Default: the number of tokens of the data, one beyond them. A mask
            token inside a network's vocabulary (BERT: 103) is never a token of the data.
    """

    mask: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask is not None:
            object.__setattr__(self, "mask", integer("mask", self.mask, 0))

    @property
    @override
    def name(self) -> str:
        return "masked"

    @override
    def states(self, vocabulary: int) -> int:
        if self.mask is not None and self.mask > vocabulary:
            raise ArgumentError(
                f"mask={self.mask}: must be at most {vocabulary}, the number of tokens of the data"
            )
        return vocabulary if self.mask is not None and self.mask < vocabulary else vocabulary + 1

    def mask_of(self, states: int) -> int:
        """The mask token of states with ``states`` tokens: the last one by default."""
        return states - 1 if self.mask is None else self.mask

    @override
    def start(self, uniforms: Tensor, vocabulary: int) -> Tensor:
        mask = self.mask_of(self.states(vocabulary))
        return torch.full(uniforms.shape, mask, dtype=torch.int64, device=uniforms.device)

    @override
    def noised(
        self, x0: Tensor, t: float, keeps: Tensor, values: Tensor, vocabulary: int
    ) -> Tensor:
        x0 = self.check_tokens(x0, vocabulary, "x0")
        mask = self.mask_of(self.states(vocabulary))
        return torch.where(keeps < self.alpha(t), x0, torch.full_like(x0, mask))

    @override
    def likelihood(self, x: Tensor, t: float, vocabulary: int) -> Tensor:
        mask = self.mask_of(self.states(vocabulary))
        hit = x[..., None] == torch.arange(vocabulary, device=x.device)
        return (hit | (x == mask)[..., None]).to(torch.float64)

    @override
    def step(self, p: Tensor, x: Tensor, t: float, s: float) -> Tensor:
        """Only masked positions change: ``P(v) = (alpha_s - alpha_t)/(1 - alpha_t) p(v)``,
        ``P(mask) = (1 - alpha_s)/(1 - alpha_t)``. At s = 0 each mask is drawn from p."""
        self.kept(t, s)
        late, early = self.alpha(t), self.alpha(s)
        return self.revealing(p, x, (early - late) / (1.0 - late), (1.0 - early) / (1.0 - late))

    def revealing(self, p: Tensor, x: Tensor, move: float | Tensor, stay: float | Tensor) -> Tensor:
        """Law (B, L, K) in which a masked position gets a token of ``p`` with probability ``move``
        and stays masked with probability ``stay`` (numbers, or tensors (B, L)); other positions do
        not change. ``p`` is one-hot there."""
        mask = self.mask_of(p.shape[-1])
        hidden = x == mask
        out = p * torch.where(hidden, move, torch.ones_like(p[..., 0]))[..., None]
        out[..., mask] = torch.where(hidden, stay, torch.zeros_like(p[..., 0]))
        return out

    @override
    def scores(self, p: Tensor, x: Tensor, t: float) -> Tensor:
        """At a mask ``alpha/(1 - alpha) p(v)``, at other positions 0 beside the token itself."""
        alpha, mask = self.finite(t, "concrete scores"), self.mask_of(p.shape[-1])
        hidden = (x == mask)[..., None]
        return torch.where(hidden, p * (alpha / (1.0 - alpha)), 0.0) + one_hot(x, p)

    @override
    def score_step(self, scores: Tensor, x: Tensor, t: float, s: float) -> Tensor:
        """At a mask ``P(v) = (1/a - 1) score(v)`` with ``a = alpha_t/alpha_s``, and the rest for
        the mask, none at s = 0; then normalised."""
        a, mask = self.kept(t, s), self.mask_of(scores.shape[-1])
        self.finite(t, "concrete scores")
        out = torch.where((x == mask)[..., None], (1.0 / a - 1.0) * scores.clamp(min=0.0), 0.0)
        out[..., mask] = 0.0
        rest = (1.0 - out.sum(-1)).clamp(min=0.0) if s > 0.0 else torch.zeros_like(out[..., 0])
        out[..., mask] = torch.where(x == mask, rest, torch.zeros_like(rest))
        out = out + torch.where((x == mask)[..., None], 0.0, one_hot(x, scores))
        return out / out.sum(-1, keepdim=True)

    @override
    def rates(self, p: Tensor, x: Tensor, t: float) -> Tensor:
        """``-alpha'/(1 - alpha) p(v)`` at a mask, 0 elsewhere."""
        hidden = (x == self.mask_of(p.shape[-1]))[..., None]
        return torch.where(hidden, p * (-self.dalpha(t) / (1.0 - self.alpha(t))), 0.0)

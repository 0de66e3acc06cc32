"""Remasking: revealed tokens may become masks again and be drawn anew."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ....checks import ArgumentError, choice, number
from ..masked import Masked
from ..registry import Now, register
from ..transition import DiscreteTransition

SCHEDULES = ("cap", "rescale", "conf")


@dataclass(frozen=True)
class Remasking:
    """Options of ReMDM.

    schedule: ``cap``, remasking probability ``min(eta, top)`` with ``top = min(1, (1 - alpha_s) /
        alpha_t)``; ``rescale``, ``eta top``; ``conf``, ``eta top`` times a softmax over the
        revealed positions, in which tokens drawn with a small probability count more.
    eta: strength in [0, 1]; 0 is the ancestral step.
    start, end: remasking happens at steps that begin at a time in [end, start].
    """

    schedule: str = "rescale"
    eta: float = 0.1
    start: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        choice("schedule", self.schedule, SCHEDULES)
        number("eta", self.eta, 0.0, 1.0)
        number("end", self.end, 0.0, 1.0)
        if not self.end <= number("start", self.start, 0.0, 1.0):
            raise ArgumentError(f"start={self.start!r}: must be at least end={self.end!r}")


@register(
    "remdm",
    source="Wang et al. 2025, arXiv 2503.00307 (ReMDM)",
    paths=("masked",),
    remembers=True,
)
def remdm(now: Now, options: Remasking) -> DiscreteTransition:
    """A revealed token becomes a mask with probability sigma, and masks are revealed more often.

    A mask gets a token of p with probability ``(alpha_s - (1 - sigma) alpha_t)/(1 - alpha_t)``, so
    that the expected number of masks is that of the path for every sigma of ``cap`` and
    ``rescale``; sigma of ``conf`` depends on the other positions, and there it is so only about.
    Tokens given in the start state are never masked. The last step, to t = 0, masks nothing.
    """
    path = now.path
    assert isinstance(path, Masked)
    late, early = path.alpha(now.t), path.alpha(now.s)
    sigma = _sigma(now, options, late, early)
    mask = path.mask_of(now.probs.shape[-1])
    hidden = now.x == mask
    move = (early - (1.0 - sigma) * late) / (1.0 - late)
    stay = (1.0 - early - sigma * late) / (1.0 - late)
    out = path.revealing(now.probs, now.x, move, stay.clamp(min=0.0))
    # revealed positions: p is one-hot there
    out = torch.where(hidden[..., None], out, out * (1.0 - sigma)[..., None])
    out[..., mask] = torch.where(hidden, out[..., mask], sigma)
    return now.law(out)


def _sigma(now: Now, options: Remasking, late: float, early: float) -> Tensor:
    """Remasking probability (B, L); 0 at given tokens. At masks it is that of their own reveal."""
    path = now.path
    assert isinstance(path, Masked)
    like = now.probs[..., 0]
    if late == 0.0 or not options.end <= now.t <= options.start:
        return torch.zeros_like(like)
    top = min(1.0, (1.0 - early) / late)
    if options.schedule == "cap":
        sigma = torch.full_like(like, min(options.eta, top))
    elif options.schedule == "rescale":
        sigma = torch.full_like(like, options.eta * top)
    else:
        assert now.certainty is not None
        free = ~now.given & (now.x != path.mask_of(now.probs.shape[-1]))
        weights = torch.exp(-now.certainty.to(like)) * free
        total = weights.sum(1, keepdim=True).clamp(min=torch.finfo(like.dtype).tiny)
        sigma = options.eta * top * weights / total
    return sigma * ~now.given

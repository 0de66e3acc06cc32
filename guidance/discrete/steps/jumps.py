"""Steps with the rates of the reversed chain held fixed: tau-leaping, and Euler."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ....checks import choice
from ..path import DiscretePath
from ..registry import NoOptions, Now, register
from ..transition import DiscreteTransition

#: what becomes of several jumps of one position in one step
SEVERAL = ("reject", "first")


@dataclass(frozen=True)
class Leaping:
    """Options of tau-leaping.

    several: what becomes of a position that jumps several times in a step: ``reject`` leaves it
        where it was, ``first`` makes the first jump.
    """

    several: str = "reject"

    def __post_init__(self) -> None:
        choice("several", self.several, SEVERAL)


def _check(path: DiscretePath, times: tuple[float, ...], options: object) -> None:
    for t in times[:-2]:
        path.dalpha(t)
        if path.name == "uniform":
            path.finite(t, "rates of jumps")


@register("tau_leaping", source="Campbell et al. 2022, arXiv 2205.14987, alg. 1", check=_check)
def tau_leaping(now: Now, options: Leaping) -> DiscreteTransition:
    """Each position makes a Poisson number of jumps with the rates R of the state, held fixed.

    A jump to v alone has the probability ``h R_v exp(-h R)``, R the sum of the rates, and with
    ``several="first"`` it is ``(1 - exp(-h R)) R_v / R``. The last step, to t = 0, is the exact
    one, so no mask is left. First order in the step.
    """
    if now.s == 0.0:
        return now.law(now.path.step(now.probs, now.x, now.t, now.s))
    jumps = (now.t - now.s) * now.path.rates(now.probs, now.x, now.t)
    total = jumps.sum(-1, keepdim=True)
    if options.several == "reject":
        return now.law(_filled(jumps * torch.exp(-total), now.x))
    share = torch.where(total > 0.0, -torch.expm1(-total) / total, torch.zeros_like(total))
    return now.law(_filled(jumps * share, now.x))


@register("rate_euler", source="Lou et al. 2023, arXiv 2310.16834 (Euler)", check=_check)
def rate_euler(now: Now, options: NoOptions) -> DiscreteTransition:
    """A position jumps to v with probability ``h R_v``; where the sum is above 1 it is scaled to 1.

    On ``Masked("linear")`` it is the ancestral step. The last step, to t = 0, is the exact one.
    First order in the step.
    """
    if now.s == 0.0:
        return now.law(now.path.step(now.probs, now.x, now.t, now.s))
    jumps = (now.t - now.s) * now.path.rates(now.probs, now.x, now.t)
    return now.law(_filled(jumps / jumps.sum(-1, keepdim=True).clamp(min=1.0), now.x))


def _filled(jumps: Tensor, x: Tensor) -> Tensor:
    """The law (B, L, K) of the next token: the probabilities of jumps, and the rest for the token
    of the state."""
    stay = (1.0 - jumps.sum(-1, keepdim=True)).clamp(min=0.0)
    return jumps.scatter(-1, x[..., None], stay)

r"""The residual loss of physics-informed diffusion models, Bastek, Sun & Kochmann 2024, arXiv
2403.14404, equation 13.

A network that denoises is trained on its usual loss plus

    c  E mean_r( r(x0*)^2 ) / (2 V(sigma))

where ``r`` is the residual of an equation, ``x0*`` an estimate of the clean sample and ``V`` the
variance of the reverse step: the residual is a virtual observation, zero with that variance. The
estimate is the denoiser's answer, which is a mean over all clean samples and so need not satisfy a
nonlinear equation even for a perfect network, or a sample, drawn from the noisy one by some solver
steps (their section 3.3): dearer, and without that gap.

V is the table of their DDPM, T = 100 steps of the cosine path, between the steps log-linear in
log sigma; V(sigma) of sigmas outside the table is that of its ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..checks import ArgumentError, described, number, shown
from ..schedules.config import make_betas

#: (x, sigma (B,)) -> the clean sample, for ``x = x0 + sigma eps``
Denoise: TypeAlias = Callable[[Tensor, Tensor], Tensor]
#: (denoise, x, sigma) -> an estimate of the clean sample, differentiable
SampleEstimate: TypeAlias = Callable[[Denoise, Tensor, Tensor], Tensor]
STEPS = 100


@lru_cache(maxsize=1)
def _table() -> tuple[np.ndarray, np.ndarray]:
    """log sigma and log V of the steps, increasing. V of the first step, 0 in the formula, is that
    of the second."""
    betas = make_betas("squaredcos_cap_v2", STEPS)
    bar = np.cumprod(1.0 - betas)
    variance = betas[1:] * (1.0 - bar[:-1]) / (1.0 - bar[1:])
    sigma = np.sqrt((1.0 - bar) / bar)
    return np.log(sigma), np.log(np.concatenate([variance[:1], variance]))


def step_variance(sigma: Tensor) -> Tensor:
    """V(sigma), like ``sigma``."""
    x, y = _table()
    found = np.exp(np.interp(sigma.detach().double().log().cpu().numpy(), x, y))
    return torch.as_tensor(found).to(sigma)


@dataclass(frozen=True)
class ResidualLoss:
    """The term that a training recipe adds to its loss.

    Attributes:
        residual: samples (B, *shape), in the coordinates that the network works in, -> the residual
            (B, ...), differentiable.
        weight: c; 1e-3 in the paper's Darcy flow.
        estimate: how the clean sample is estimated from a noisy one; None: the denoiser's answer.
        name: what the record of a training run says.
    """

    residual: Callable[[Tensor], Tensor]
    weight: float = 1e-3
    estimate: SampleEstimate | None = None
    name: str = "residual loss"

    def __post_init__(self) -> None:
        """Raise ArgumentError for a weight that is negative or not finite, or for what cannot be
        called."""
        number("weight", self.weight, 0.0, math.inf)
        for name in ("residual", "estimate"):
            value = getattr(self, name)
            if not (callable(value) or (name == "estimate" and value is None)):
                raise ArgumentError(f"{name}={shown(value)} must be a function")

    def __call__(self, denoise: Denoise, x: Tensor, sigma: Tensor, answer: Tensor) -> Tensor:
        """The weighted term of each sample, (B,). ``answer`` is ``denoise(x, sigma)``, which the
        main loss has computed."""
        clean = answer if self.estimate is None else self.estimate(denoise, x, sigma)
        r = self.residual(clean)
        if not isinstance(r, Tensor) or r.ndim < 1 or len(r) != len(x):
            raise ArgumentError(
                f"the residual of {len(x)} samples must be a tensor (B, ...), got {described(r)}"
            )
        r = r if r.is_floating_point() else r.abs()
        mean = r.square().reshape(len(x), -1).mean(1)
        return self.weight * mean / (2.0 * step_variance(sigma).to(mean))

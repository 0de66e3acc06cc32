r"""The clipped loss of policy gradients on recorded steps.

PPO (Schulman et al. 2017, arXiv 1707.06347, eq. 7), as DDPO (Black et al. 2023, arXiv 2305.13301)
and Flow-GRPO (Liu et al. 2025, arXiv 2505.05470) apply it to every
noisy step: with the ratio ``rho = p(x_{k+1} | x_k) / p_old(x_{k+1} | x_k)`` and the advantage A,

    L = mean max(-A rho, -A clip(rho, 1 - clip, 1 + clip))
"""

from __future__ import annotations

import torch
from torch import Tensor

from ... import checks
from ...checks import ArgumentError
from .arguments import alike, constant, finite, reduced, widened


def ppo_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    clip: float = 1e-4,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Return ``max(-A rho, -A clip(rho, 1 - clip, 1 + clip))`` with ``rho = exp(log_prob -
    old_log_prob)``, averaged over all steps and samples.

    At ``log_prob == old_log_prob`` its gradient is the policy gradient ``-mean A d log_prob``.
    Where the minimum of PPO takes the clipped ratio, the gradient is exactly 0, also where the
    ratio overflows.

    Args:
        log_prob: (..., B), of the parameters in training: ``transition_log_prob(plan, den,
            states)``, (K, B). Its reduction sets the ratio: with ``"sum"`` that of the
            likelihoods; with ``"mean"`` its d-th root for d elements, as in the public code.
        old_log_prob: of the parameters that drew the states, the same shape and reduction, without
            gradients.
        advantage: (B,), or the shape of ``log_prob``; finite, without gradients.
        clip: half the width of the interval of ratios, positive. 1e-4 is DDPO's and Flow-GRPO's,
            for the mean over the elements of an image.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises ArgumentError for other shapes, and for what requires grad but would get none.
    """
    checks.between("clip", clip, 0.0)
    new, old = widened("log_prob", log_prob), constant("old_log_prob", old_log_prob)
    alike("log_prob", new, "old_log_prob", old)
    a = finite("advantage", advantage)
    if a.shape not in (new.shape, new.shape[-1:]):
        raise ArgumentError(
            f"advantage has shape {tuple(a.shape)}: must be {tuple(new.shape[-1:])} or that of "
            f"log_prob, {tuple(new.shape)}"
        )
    a, change = a.to(new.dtype), new - old
    bound = 1.0 + clip * a.sign()
    ratio = change.detach().exp()
    clipped = torch.where(a > 0.0, ratio > bound, ratio < bound) | (a == 0.0)
    # exp of a ratio that overflows would turn the zero gradient into NaN
    free = torch.where(clipped, 0.0, change).exp()
    loss = torch.where(clipped, -a * bound, -a * free)
    return reduced(loss, reduction)

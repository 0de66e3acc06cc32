"""A step with one time per token (``per_token_timesteps``, passed by pipelines with clean
conditioning tokens), computed as by flow Euler.

Token i moves from its own sigma to the next lower sigma of the run:
``x - (sigma_i - sigma_next) v``. As in diffusers, the sign of the network's output is reversed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...checks import ArgumentError
from ...schedules import Flow
from .program import Compiled

#: how near two noise levels are one
NEAR = 1e-6


def check(run: Compiled, tokens: Tensor, sample: Tensor) -> None:
    """ArgumentError where the run has no tokens of their own times."""
    if not isinstance(run.network.schedule, Flow):
        raise ArgumentError(
            f"per_token_timesteps are for flows, not for {type(run.network.schedule).__name__}"
        )
    wanted = sample.shape[: tokens.ndim]
    if tokens.ndim >= sample.ndim or any(
        n not in (1, m) for n, m in zip(tokens.shape, wanted, strict=True)
    ):
        raise ArgumentError(
            f"per_token_timesteps has shape {tuple(tokens.shape)}, the sample "
            f"{tuple(sample.shape)}: one time a token is required"
        )


def state(
    run: Compiled,
    tokens: Tensor,
    scale: float,
    velocity: Tensor,
    sample: Tensor,
    whole: Tensor,
    due: float,
) -> Tensor:
    """The next state, token by token; ``whole`` is the plan's, where all tokens are at ``due``.

    A sampler other than flow Euler has no step for a token at another time: ArgumentError on the
    host, RuntimeError from a device.
    """
    sigma = tokens.to(torch.float64 if tokens.device.type == "cpu" else torch.float32) / scale
    if run.sampler != "flow_euler":
        far = (sigma - due / scale).abs().max() > NEAR
        words = (
            f"per_token_timesteps other than {due:.6g}, the time that is due: only flow_euler "
            f"steps tokens apart, not {run.sampler}"
        )
        if tokens.device.type == "cuda":
            torch._assert_async(~far, words)
        elif bool(far):
            raise ArgumentError(words)
        return whole
    levels = torch.tensor(run.sigmas, dtype=sigma.dtype).to(sigma.device, non_blocking=True)
    lower = torch.where(levels < sigma.unsqueeze(-1) - NEAR, levels, 0.0).amax(-1)
    change = (lower - sigma).reshape(sigma.shape + (1,) * (sample.ndim - sigma.ndim))
    wide = torch.promote_types(sample.dtype, torch.float32)
    return (sample.to(wide) + change.to(wide) * velocity.to(wide)).to(sample.dtype)

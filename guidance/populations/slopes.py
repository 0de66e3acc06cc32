"""Gradients of values with respect to states."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...checks import ArgumentError, described
from ...plans.transforms.gradients import GradientError


def gradient(
    function: Callable[[Tensor], Tensor], given: Tensor, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``function(given)`` (B,) and its gradient with respect to ``x`` (B, *shape), on which
    ``given`` depends; both detached, for autograd that is enabled.

    The gradient of a value that is not finite is 0. ArgumentError unless the value is one number
    per row; GradientError where it does not depend on ``x``.
    """
    value = function(given)
    if not isinstance(value, Tensor) or value.shape != x.shape[:1] or value.is_complex():
        raise ArgumentError(
            f"the value returned {described(value)} for {x.shape[0]} rows; it must be a tensor "
            f"({x.shape[0]},) of real numbers"
        )
    if not value.requires_grad:
        raise GradientError(
            "the value has no gradient with respect to the state: it must be made of x0 by "
            "differentiable operations of torch, by a model that autograd can follow; the method "
            "smc needs no gradient"
        )
    (slope,) = torch.autograd.grad(value.sum(), x, allow_unused=True)
    slope = torch.zeros_like(x) if slope is None else slope
    column = value.isfinite().reshape(-1, *(1,) * (x.ndim - 1))
    return value.detach(), torch.where(column & slope.isfinite(), slope, 0.0)


def refuse_inference(method: str) -> None:
    """Raise GradientError in ``torch.inference_mode``."""
    if torch.is_inference_mode_enabled():
        raise GradientError(
            f"{method} differentiates the model, which torch.inference_mode does not allow: use "
            "torch.no_grad"
        )

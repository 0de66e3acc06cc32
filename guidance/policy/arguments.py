"""Checks of what the losses are given, and their reductions."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import checks
from ...checks import ArgumentError

REDUCTIONS = ("mean", "sum", "none")


def widened(name: str, value: Tensor, axes: int = 1) -> Tensor:
    """Return a floating point tensor in float32 or better. Raises ArgumentError for anything else,
    for fewer than ``axes`` axes, and for a tensor without elements."""
    found = checks.tensor(name, value, axes=axes)
    if not found.numel():
        raise ArgumentError(f"{name} has shape {tuple(found.shape)}: it has no elements")
    return found.to(torch.promote_types(found.dtype, torch.float32))


def constant(name: str, value: Tensor, axes: int = 1) -> Tensor:
    """Return ``widened(value)``. Raises ArgumentError where gradients are recorded for it, since
    the losses take it as a constant."""
    found = widened(name, value, axes)
    if found.requires_grad:
        raise ArgumentError(
            f"{name} requires grad, but the loss takes it as a constant: compute it under "
            "torch.no_grad(), or give its detach()"
        )
    if found.is_inference() and not torch.is_inference_mode_enabled():
        return found.clone()  # autograd saves no tensor made in inference mode
    return found


def finite(name: str, value: Tensor, axes: int = 1) -> Tensor:
    """Return ``constant(value)``. Raises ArgumentError where an element is not finite."""
    found = constant(name, value, axes)
    wrong = (~torch.isfinite(found)).nonzero()
    if len(wrong):
        first = tuple(wrong[0].tolist())
        raise ArgumentError(
            f"{name} has {len(wrong)} of {found.numel()} elements that are not finite, the first "
            f"at {first}: {float(found[first])}"
        )
    return found


def alike(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Raise ArgumentError unless the two tensors have one shape."""
    if value.shape != other.shape:
        raise ArgumentError(
            f"{name} has shape {tuple(value.shape)}, {other_name} {tuple(other.shape)}: they must "
            "be equal"
        )


def reduced(values: Tensor, reduction: str) -> Tensor:
    """Return the mean or the sum of ``values``, or the values."""
    checks.choice("reduction", reduction, REDUCTIONS)
    if reduction == "none":
        return values
    return values.mean() if reduction == "mean" else values.sum()

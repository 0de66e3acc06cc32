"""Derivatives of forward models, by automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...checks import ArgumentError, described


class Linearised(NamedTuple):
    """An operator at one point x: ``value`` is A(x); ``forward`` maps u (B, *shape) to ``A'(x) u``;
    ``adjoint`` maps v (B, *measured) to ``A'(x)^T v``."""

    value: Tensor
    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]


def linearised(function: Callable[[Tensor], Tensor], x: Tensor, graph: bool = False) -> Linearised:
    """A differentiable ``function`` at ``x``: derivatives by automatic differentiation (reverse
    mode; the forward derivative by differentiating twice)."""
    with torch.enable_grad():
        leaf = x if graph and x.requires_grad else x.detach().requires_grad_(True)
        value = function(leaf)
        if not value.requires_grad:
            raise no_gradient("the operator")

    def adjoint(v: Tensor) -> Tensor:
        return _vjp(value, leaf, v, graph)

    def forward(u: Tensor) -> Tensor:
        with torch.enable_grad():
            dummy = torch.zeros_like(value).requires_grad_(True)
            (back,) = torch.autograd.grad(value, leaf, dummy, create_graph=True)
            if not back.requires_grad:  # the derivative is zero everywhere
                return torch.zeros_like(value)
        return _vjp(back, dummy, u, graph)

    return Linearised(value if graph else value.detach(), forward, adjoint)


def no_gradient(what: str) -> ArgumentError:
    """The error of an operator that cannot be differentiated, with what needs no derivative."""
    return ArgumentError(
        f"{what} has no gradient: it must be made of differentiable operations of "
        "torch. Methods without its gradient: guidance.solve with method='dps_gsg' or "
        "'diffpir_gsg'; guidance.steer with method='enkg' or 'smc'"
    )


def _vjp(value: Tensor, leaf: Tensor, v: Tensor, graph: bool) -> Tensor:
    (found,) = torch.autograd.grad(
        value, leaf, v.to(value), retain_graph=True, create_graph=graph, allow_unused=True
    )
    return torch.zeros_like(leaf) if found is None else found


def checked_output(found: Any, x: Tensor, operator: object) -> Tensor:
    """The output of an operator. Raises ArgumentError unless it is a floating point tensor with
    the batch size of ``x``."""
    fits = isinstance(found, Tensor) and found.is_floating_point() and found.ndim >= 1
    if not fits or found.shape[0] != x.shape[0]:
        raise ArgumentError(
            f"{operator!r} returned {described(found)}; it must be a floating point tensor "
            f"({x.shape[0]}, ...)"
        )
    made: Tensor = found
    return made

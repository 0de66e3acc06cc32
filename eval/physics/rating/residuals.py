"""Sizes of a residual, one float64 number a sample."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from ....checks import ArgumentError, between
from ..arguments import wide
from ..equation import Spacing
from .transforms import fourier, space


def mean_absolute_residual(residual: Tensor) -> Tensor:
    """``<|r|>`` over all points and times, (B,), in the units of ``residual`` (B, ...)."""
    return _points(residual).abs().mean(1)


def rms_residual(residual: Tensor) -> Tensor:
    """``sqrt(<|r|^2>)`` over all points and times, (B,), in the units of ``residual`` (B, ...)."""
    return _points(residual).abs().square().mean(1).sqrt()


def relative_residual(residual: Tensor, scale: Tensor) -> Tensor:
    """``sqrt(<|r|^2>) / scale``, (B,). ``scale`` (B,) is the root mean square of the equation's
    largest term (``Equation.scale``); where both are 0 the result is 0."""
    return ratio(rms_residual(residual), scale)


def negative_norm(
    residual: Tensor, spacing: Spacing, walls: Collection[str] = (), order: float = 1.0
) -> Tensor:
    """``sqrt(sum_k |r_k|^2 / |k|^(2 order))``, (B,), root mean square over the times.

    ``order=1`` is the norm of H^-1, ``order=2`` the root mean square of ``Laplace^-1 r``, which for
    a second-order equation tracks the error of the solution: white noise in the solution, which a
    residual multiplies by ``1/h^2``, counts with about its own size. ``residual`` is (B, [T,]
    space), on the interior points along ``walls``, where it is continued by 0; the mean over
    periodic axes (k = 0) is left out.
    """
    between("order", order, 0.0)
    power, wave, _ = fourier(wide(residual), spacing, walls, parity="interior")
    inverse = torch.where(wave > 0.0, wave, torch.inf) ** (-2.0 * order)
    at_times = (power * inverse).flatten(-len(space(spacing))).sum(-1)
    return at_times.reshape(len(residual), -1).mean(1).sqrt()


def ratio(above: Tensor, below: Tensor) -> Tensor:
    """``above / below``, and 0 where both are 0."""
    return torch.where(above == 0.0, torch.zeros_like(above), above / below.to(above))


def _points(residual: Tensor) -> Tensor:
    """(B, points) in float64. Raises ArgumentError without points."""
    if residual.ndim < 2 or not residual.numel():
        raise ArgumentError(
            f"a residual must be (B, points), with at least one of each; got {residual.shape}"
        )
    return wide(residual).flatten(1)

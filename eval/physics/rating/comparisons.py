"""Errors of fields against reference fields of the same shape, one float64 number a sample."""

from __future__ import annotations

from torch import Tensor

from ....checks import ArgumentError, number
from ..arguments import wide
from .residuals import ratio


def relative_l2(field: Tensor, reference: Tensor) -> Tensor:
    """``|u - u*| / |u*|`` with Euclidean norms over all points and times, (B,)."""
    u, true = couple(field, reference)
    return ratio((u - true).flatten(1).norm(dim=1), true.flatten(1).norm(dim=1))


def relative_l1(field: Tensor, reference: Tensor) -> Tensor:
    """``sum |u - u*| / sum |u*|`` over all points and times, (B,)."""
    u, true = couple(field, reference)
    return ratio((u - true).flatten(1).abs().sum(1), true.flatten(1).abs().sum(1))


def wrong_share(field: Tensor, reference: Tensor, levels: tuple[float, float]) -> Tensor:
    """Share of points, (B,), where a coefficient of the two values ``levels`` is on the other side
    of their midpoint than the reference."""
    u, true = couple(field, reference)
    low, high = (float(number("a level", level)) for level in levels)
    if u.is_complex() or low == high:
        raise ArgumentError(f"levels={levels}: must be two different values of a real field")
    middle = 0.5 * (low + high)
    return ((u >= middle) != (true >= middle)).flatten(1).double().mean(1)


def couple(field: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64. Raises ArgumentError for different shapes."""
    if field.shape != reference.shape or field.ndim < 2:
        raise ArgumentError(
            f"fields of shape {tuple(field.shape)} and reference of shape "
            f"{tuple(reference.shape)}: must be the same, (B, points)"
        )
    return wide(field), wide(reference).to(field.device)

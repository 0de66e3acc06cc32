"""The Laplacian of five points on the nodes of a rectangle whose walls hold zero.

Its eigenvectors are products of sines, ``sin(pi i a/(n-1)) sin(pi j b/(m-1))`` at node (a, b), with
the eigenvalues ``l_i + l_j``, ``l_i = -(4/h^2) sin^2(pi i / (2 (n - 1)))``, i = 1 .. n-2. The sine
transform (DST-I) solves ``(Laplace + shift) u = f`` in this discretisation exactly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...checks import ArgumentError

#: a shift is refused nearer to an eigenvalue than this, relative to itself: rounding is then
#: magnified by more than its inverse
NEAREST = 1e-10


def laplacian(u: Tensor, spacing: dict[str, float]) -> Tensor:
    """The Laplacian of ``u`` (B, X, Y) at the interior nodes, (B, X-2, Y-2)."""
    middle = u[:, 1:-1, 1:-1]
    across = (u[:, 2:, 1:-1] - 2.0 * middle + u[:, :-2, 1:-1]) / spacing["x"] ** 2
    return across + (u[:, 1:-1, 2:] - 2.0 * middle + u[:, 1:-1, :-2]) / spacing["y"] ** 2


def _sines(n: int, like: Tensor) -> Tensor:
    """The symmetric matrix ``sqrt(2/(n-1)) sin(pi i j/(n-1))``, its own inverse, (n-2, n-2)."""
    i = torch.arange(1, n - 1, device=like.device)
    turns = (i[:, None] * i) % (2 * (n - 1))
    return torch.sin(math.pi / (n - 1) * turns.to(like.dtype)) * math.sqrt(2.0 / (n - 1))


def eigenvalues(u: Tensor, spacing: dict[str, float]) -> Tensor:
    """Eigenvalues of the Laplacian on the grid of ``u`` (B, X, Y), (X-2, Y-2)."""
    parts = []
    for axis, n in zip(("x", "y"), u.shape[1:], strict=True):
        half = math.pi / (2 * (n - 1)) * torch.arange(1, n - 1, device=u.device, dtype=u.dtype)
        parts.append(-4.0 / spacing[axis] ** 2 * torch.sin(half) ** 2)
    return parts[0][:, None] + parts[1]


def solve_shifted(f: Tensor, spacing: dict[str, float], shift: Tensor | float = 0.0) -> Tensor:
    """``u`` (B, X, Y), zero on the walls, with ``Laplace u + shift u = f`` at the interior nodes of
    ``f`` (B, X, Y); ``shift`` is a number or (B, 1, 1).

    Raises ArgumentError where ``-shift`` is an eigenvalue of the Laplacian.
    """
    values = eigenvalues(f, spacing)
    divisor = values + shift
    away = divisor.abs().flatten(1) if divisor.ndim == 3 else divisor.abs().reshape(1, -1)
    least, at = away.min(1)
    bad = least <= NEAREST * values.flatten()[at].abs()
    if bool(bad.any()):
        number = -float(values.flatten()[at[bad][0]])
        raise ArgumentError(
            f"k^2 = {number:.12g} is an eigenvalue of the discrete operator on this grid, so that "
            "the equation has no solution or many; change k"
        )
    across, along = (_sines(n, f) for n in f.shape[1:])
    spectrum = across @ f[:, 1:-1, 1:-1] @ along
    return torch.nn.functional.pad(across @ (spectrum / divisor) @ along, (1, 1, 1, 1))

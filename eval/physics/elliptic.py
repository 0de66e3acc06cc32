r"""The operator ``-div(a grad u)`` on the nodes of a square, by finite volumes, and the solution of
``-div(a grad u) = f`` with ``u = 0`` on the boundary, in float64.

With the coefficient of a face the arithmetic or harmonic mean of its two nodes,

    (A u)_ij = [a_(i+1/2) (u_ij - u_(i+1,j)) + a_(i-1/2) (u_ij - u_(i-1,j))] / h_x^2 + (same in j)

on interior nodes: a symmetric positive definite matrix of five diagonals. It is solved by Cholesky
factorisation of its band (LAPACK ``pbsv``), one sample after another.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...checks import choice

#: rules for the coefficient of a face between two nodes
MEANS = ("arithmetic", "harmonic")


def face_mean(first: Tensor, second: Tensor, mean: str = "arithmetic") -> Tensor:
    """``(a + b) / 2``, or ``2 a b / (a + b)`` for ``mean="harmonic"``: the exact flux across a jump
    halfway between two nodes. Raises ArgumentError for another ``mean``."""
    if choice("mean", mean, MEANS) == "arithmetic":
        return (first + second) / 2.0
    return 2.0 * first * second / (first + second)


def faces(a: Tensor, mean: str) -> tuple[Tensor, Tensor]:
    """Coefficients of the faces around interior nodes of ``a`` (B, H, W): (B, H-1, W-2) across the
    first axis, (B, H-2, W-1) across the second."""
    inner, other = a[:, :, 1:-1], a[:, 1:-1]
    return (
        face_mean(inner[:, 1:], inner[:, :-1], mean),
        face_mean(other[:, :, 1:], other[:, :, :-1], mean),
    )


def flux_divergence(a: Tensor, u: Tensor, spacing: tuple[float, float], mean: str) -> Tensor:
    """``div(a grad u)`` on interior nodes, (B, H-2, W-2), for ``a`` and ``u`` (B, H, W)."""
    rows, columns = faces(a, mean)
    across = rows * u[:, :, 1:-1].diff(dim=1) / spacing[0] ** 2
    along = columns * u[:, 1:-1].diff(dim=2) / spacing[1] ** 2
    return across.diff(dim=1) + along.diff(dim=2)


def solve_dirichlet(
    a: Tensor, source: Tensor, spacing: tuple[float, float], mean: str = "arithmetic"
) -> Tensor:
    """Return ``u`` (B, H, W), float64 on the CPU, with ``-div(a grad u) = source`` on interior
    nodes and ``u = 0`` on the boundary; ``a`` > 0 and ``source`` are (B, H, W)."""
    from scipy.linalg import solveh_banded  # type: ignore[import-untyped]

    a, source = a.detach().double().cpu(), source.detach().double().cpu()
    batch, height, width = a.shape
    rows, columns = (value / h**2 for value, h in zip(faces(a, mean), spacing, strict=True))
    n, band = (height - 2) * (width - 2), width - 2
    matrix = torch.zeros(batch, n, band + 1, dtype=torch.float64)
    diagonal = rows[:, 1:] + rows[:, :-1] + columns[:, :, 1:] + columns[:, :, :-1]
    matrix[:, :, 0] = diagonal.flatten(1)
    beside = -columns[:, :, 1:]
    beside[:, :, -1] = 0.0  # the last node of a row has no neighbour in the next row
    below = -rows[:, 1:]
    below[:, -1] = 0.0
    matrix[:, :, band] = below.flatten(1)
    matrix[:, :, 1] += beside.flatten(1)
    right = source[:, 1:-1, 1:-1].flatten(1).numpy()
    u = torch.zeros_like(a)
    for i, (bands, b) in enumerate(zip(matrix.numpy(), right, strict=True)):
        inner = solveh_banded(bands.T, b, overwrite_ab=True, lower=True, check_finite=False)
        u[i, 1:-1, 1:-1] = torch.from_numpy(inner).reshape(height - 2, width - 2)
    return u

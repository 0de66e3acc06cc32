r"""The operator ``-div(a grad u)`` on a rectangle by finite volumes, and the solution of ``-div(a
grad u) = f``, in float64.

With the coefficient of a face the arithmetic or harmonic mean of its two nodes,

    (A u)_ij = [a_(i+1/2) (u_ij - u_(i+1,j)) + a_(i-1/2) (u_ij - u_(i-1,j))] / h_x^2 + (same in j)

Two kinds of walls: ``u = 0`` on the nodes of the boundary, with equations at the interior nodes
(``flux_divergence``, ``solve_dirichlet``); and no flux, with equations on all cells
(``closed_divergence``, ``solve_closed``), where u has an arbitrary constant. The matrix has five
diagonals and is symmetric, positive definite once the constant is fixed: it is solved by Cholesky
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
    """Coefficients of the faces between the points of ``a`` (B, H, W): (B, H-1, W) across the first
    axis, (B, H, W-1) across the second."""
    return (
        face_mean(a[:, 1:], a[:, :-1], mean),
        face_mean(a[:, :, 1:], a[:, :, :-1], mean),
    )


def flux_divergence(a: Tensor, u: Tensor, spacing: tuple[float, float], mean: str) -> Tensor:
    """``div(a grad u)`` on interior nodes, (B, H-2, W-2), for ``a`` and ``u`` (B, H, W)."""
    rows, columns = faces(a, mean)
    across = (rows * u.diff(dim=1))[:, :, 1:-1] / spacing[0] ** 2
    along = (columns * u.diff(dim=2))[:, 1:-1] / spacing[1] ** 2
    return across.diff(dim=1) + along.diff(dim=2)


def closed_divergence(a: Tensor, u: Tensor, spacing: tuple[float, float], mean: str) -> Tensor:
    """``div(a grad u)`` on cells between walls without flux, (B, H, W)."""
    rows, columns = faces(a, mean)
    across, along = (
        rows * u.diff(dim=1) / spacing[0] ** 2,
        columns * u.diff(dim=2) / spacing[1] ** 2,
    )
    pad = torch.nn.functional.pad
    return pad(across, (0, 0, 1, 1)).diff(dim=1) + pad(along, (1, 1)).diff(dim=2)


def solve_dirichlet(
    a: Tensor, source: Tensor, spacing: tuple[float, float], mean: str = "arithmetic"
) -> Tensor:
    """Return ``u`` (B, H, W), float64 on the CPU, with ``-div(a grad u) = source`` on interior
    nodes and ``u = 0`` on the boundary; ``a`` > 0 and ``source`` are (B, H, W)."""
    a, source = a.detach().double().cpu(), source.detach().double().cpu()
    rows, columns = (value / h**2 for value, h in zip(faces(a, mean), spacing, strict=True))
    rows, columns = rows[:, :, 1:-1], columns[:, 1:-1]
    diagonal = rows[:, 1:] + rows[:, :-1] + columns[:, :, 1:] + columns[:, :, :-1]
    u = torch.zeros_like(a)
    u[:, 1:-1, 1:-1] = _solved(diagonal, rows[:, 1:-1], columns[:, :, 1:-1], source[:, 1:-1, 1:-1])
    return u


def solve_closed(
    a: Tensor, source: Tensor, spacing: tuple[float, float], mean: str = "harmonic"
) -> Tensor:
    """Return ``u`` (B, H, W) of mean 0, float64 on the CPU, with ``-div(a grad u) = source - its
    mean`` on cells between walls without flux."""
    a, source = a.detach().double().cpu(), source.detach().double().cpu()
    rows, columns = (value / h**2 for value, h in zip(faces(a, mean), spacing, strict=True))
    pad = torch.nn.functional.pad
    above, beside = pad(rows, (0, 0, 1, 1)), pad(columns, (1, 1))
    diagonal = above[:, 1:] + above[:, :-1] + beside[:, :, 1:] + beside[:, :, :-1]
    # the first equation follows from the others: its diagonal is doubled, which sets u to 0 there
    diagonal[:, 0, 0] *= 2.0
    u = _solved(diagonal, rows, columns, source - source.mean((1, 2), keepdim=True))
    return u - u.mean((1, 2), keepdim=True)


def _solved(diagonal: Tensor, rows: Tensor, columns: Tensor, right: Tensor) -> Tensor:
    """Solve the five-point equations of ``diagonal`` (B, H, W) with the neighbours' coefficients
    ``-rows`` (B, H-1, W) and ``-columns`` (B, H, W-1)."""
    from scipy.linalg import solveh_banded  # type: ignore[import-untyped]

    batch, height, width = diagonal.shape
    matrix = torch.zeros(batch, height, width, width + 1, dtype=torch.float64)
    matrix[:, :-1, :, width] = -rows
    matrix[:, :, :-1, 1] -= columns
    matrix[..., 0] = diagonal
    out = torch.empty_like(diagonal)
    for i, bands in enumerate(matrix.reshape(batch, height * width, width + 1).numpy()):
        found = solveh_banded(
            bands.T, right[i].numpy().ravel(), overwrite_ab=True, lower=True, check_finite=False
        )
        out[i] = torch.from_numpy(found).reshape(height, width)
    return out

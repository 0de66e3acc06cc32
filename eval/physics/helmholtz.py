"""Helmholtz equation on a rectangle, ``Laplace u + k^2 u = f`` with ``u = 0`` on the walls.

The grid holds the nodes of both walls; the Laplacian is that of five points, order 2. The data set
is that of Huang et al. 2024 (DiffusionPDE, arXiv 2406.17763): k = 1 on the unit square, ``f`` a
Gaussian field, set to zero on the walls.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from torch import Tensor

from ...checks import integer
from ...fused import seeds_from
from .arguments import REQUIRED, Inputs, check_real, read, refuse_frames
from .equation import Fields, Params, Problem, Spacing
from .five_point import laplacian, solve_shifted
from .norms import largest, wall_error
from .random_fields import neumann_fields

FIELDS = ("f", "u")
OPTIONAL: tuple[str, ...] = ()
AXES = ("x", "y")
PARAMS: Final = {"k": REQUIRED}
order: float | Literal["spectral"] = 2.0


def _read(
    fields: Fields, spacing: Spacing, params: Params, needed: tuple[str, ...] = FIELDS
) -> Inputs:
    found = read(fields, spacing, params, needed=needed, axes=AXES, allowed=PARAMS)
    check_real(found.fields)
    return found


def _terms(given: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """``Laplace u``, ``k^2 u`` and ``f`` at the interior nodes."""
    u, inner = given.fields["u"], (slice(None), slice(1, -1), slice(1, -1))
    return laplacian(u, given.spacing), given.number("k") ** 2 * u[inner], given.fields["f"][inner]


def residual(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """``Laplace u + k^2 u - f`` at the interior nodes, (B, X-2, Y-2), in units of f.

    Params: ``k``, a number or one a sample (1 / length).
    """
    curvature, shifted, f = _terms(_read(fields, spacing, params))
    return curvature + shifted - f


def scale(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of the largest of the three terms, (B,)."""
    return largest(*_terms(_read(fields, spacing, params)))


def solve(
    fields: Fields, spacing: Spacing, params: Params, *, frames: int | None = None
) -> dict[str, Tensor]:
    """``{"u": (B, X, Y)}`` from ``fields["f"]`` (B, X, Y) by the sine transform: exact for the
    Laplacian of five points. Values of f on the walls play no part.

    Raises ArgumentError where k^2 is an eigenvalue of that operator.
    """
    refuse_frames(frames)
    given = _read(fields, spacing, params, ("f",))
    return {"u": solve_shifted(given.fields["f"], given.spacing, given.number("k") ** 2)}


def exact(n: int) -> Problem:
    """``u = sin(pi x) sin(pi y) / (k^2 - 2 pi^2)`` on [0, 1]^2, ``n`` nodes an axis; k = 3."""
    x = torch.linspace(0.0, 1.0, integer("n", n, 6), dtype=torch.float64)
    f = (torch.sin(math.pi * x)[:, None] * torch.sin(math.pi * x))[None]
    h, k = 1.0 / (n - 1), 3.0
    return Problem({"f": f, "u": f / (k**2 - 2.0 * math.pi**2)}, {"x": h, "y": h}, {"k": k})


def draw(n: int, size: int, seed: int = 0) -> Problem:
    """``n`` pairs of the data set on ``size`` nodes an axis: f from the Gaussian field of ``seed +
    i`` (alpha 2, tau 3), zero on the walls, and u from the solver; k = 1."""
    f = neumann_fields(integer("size", size, 6), seeds_from(seed, integer("n", n, 1)))
    f = torch.nn.functional.pad(f[:, 1:-1, 1:-1], (1, 1, 1, 1))
    spacing, params = {"x": 1.0 / (size - 1), "y": 1.0 / (size - 1)}, {"k": 1.0}
    return Problem({"f": f, **solve({"f": f}, spacing, params)}, spacing, params)


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of u on the walls relative to that of u on all nodes, (B,)."""
    return wall_error(_read(fields, spacing, params).fields["u"])


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """Empty: the equation has no time."""
    _read(fields, spacing, params)
    return {}

"""Poisson equation on a rectangle, ``Laplace u = f`` with ``u = 0`` on the walls.

The grid holds the nodes of both walls; the Laplacian is that of five points, order 2. The data set
is that of Huang et al. 2024 (DiffusionPDE, arXiv 2406.17763): ``f`` is a Gaussian field on the unit
square.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import torch
from torch import Tensor

from ...checks import integer
from ...fused import seeds_from
from .arguments import Inputs, check_real, read, refuse_frames
from .equation import Fields, Params, Problem, Spacing
from .five_point import laplacian, solve_shifted
from .norms import largest, wall_error
from .random_fields import neumann_fields

FIELDS = ("f", "u")
OPTIONAL: tuple[str, ...] = ()
AXES = ("x", "y")
PARAMS: Final[dict[str, Any]] = {}
order: float | Literal["spectral"] = 2.0


def _read(
    fields: Fields, spacing: Spacing, params: Params, needed: tuple[str, ...] = FIELDS
) -> Inputs:
    found = read(fields, spacing, params, needed=needed, axes=AXES, allowed=PARAMS)
    check_real(found.fields)
    return found


def _terms(given: Inputs) -> tuple[Tensor, Tensor]:
    """``Laplace u`` and ``f`` at the interior nodes."""
    return laplacian(given.fields["u"], given.spacing), given.fields["f"][:, 1:-1, 1:-1]


def residual(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """``Laplace u - f`` at the interior nodes, (B, X-2, Y-2), in units of f. No params."""
    curvature, f = _terms(_read(fields, spacing, params))
    return curvature - f


def scale(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of the larger of the two terms, (B,)."""
    return largest(*_terms(_read(fields, spacing, params)))


def solve(
    fields: Fields, spacing: Spacing, params: Params, *, frames: int | None = None
) -> dict[str, Tensor]:
    """``{"u": (B, X, Y)}`` from ``fields["f"]`` (B, X, Y) by the sine transform: exact for the
    Laplacian of five points. Values of f on the walls play no part."""
    refuse_frames(frames)
    given = _read(fields, spacing, params, ("f",))
    return {"u": solve_shifted(given.fields["f"], given.spacing)}


def exact(n: int) -> Problem:
    """``u = sin(pi x) sin(2 pi y)``, ``f = -5 pi^2 u`` on [0, 1]^2, ``n`` nodes an axis."""
    x = torch.linspace(0.0, 1.0, integer("n", n, 6), dtype=torch.float64)
    u = (torch.sin(math.pi * x)[:, None] * torch.sin(2.0 * math.pi * x))[None]
    h = 1.0 / (n - 1)
    return Problem({"f": -5.0 * math.pi**2 * u, "u": u}, {"x": h, "y": h}, {})


def draw(n: int, size: int, seed: int = 0) -> Problem:
    """``n`` pairs of the data set on ``size`` nodes an axis: f from the Gaussian field of ``seed +
    i`` (alpha 2, tau 3), u from the solver."""
    f = neumann_fields(integer("size", size, 6), seeds_from(seed, integer("n", n, 1)))
    spacing = {"x": 1.0 / (size - 1), "y": 1.0 / (size - 1)}
    return Problem({"f": f, **solve({"f": f}, spacing, {})}, spacing, {})


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of u on the walls relative to that of u on all nodes, (B,)."""
    return wall_error(_read(fields, spacing, params).fields["u"])


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """Empty: the equation has no time."""
    _read(fields, spacing, params)
    return {}

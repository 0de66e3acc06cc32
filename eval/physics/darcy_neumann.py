r"""Darcy flow between walls without flux: ``u = -K grad p``, ``div u = source``, ``u . n = 0``,
with p of mean zero; the setting of Bastek et al. 2025 (PIDM, arXiv 2403.14404).

``log K`` is the Karhunen-Loeve expansion of ``exp(-|x - x'| / 0.1)`` with 64 terms; the source is
+10 in the corner ``[0, 1/8]^2`` and -10 in ``[7/8, 1]^2`` of the unit square.

Discretisations (parameter ``mode``):

    ``fd2``         ``-K (p_xx + p_yy) - K_x p_x - K_y p_y - source`` at all nodes, walls included,
                    by differences of second order, one-sided at the walls. The equations at the
                    nodes and the normal derivatives at the walls are more than the unknowns: the
                    solver takes the least squares, and its data have a residual of about 2e-3
    ``fv_neumann``  finite volumes of five points on cells (spacing L/n, no point on a wall), face
                    coefficients by the harmonic mean: data without residual
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final, Literal

import torch
from torch import Tensor

from ...checks import ArgumentError, choice, integer
from ...fused import seeds_from
from .arguments import Inputs, read, refuse_frames
from .elliptic import closed_divergence, solve_closed
from .equation import Fields, Params, Problem, Spacing
from .random_fields import karhunen_loeve

FIELDS = ("p", "K")
OPTIONAL: tuple[str, ...] = ()
AXES = ("x", "y")
#: ``source=None``: the two corners
PARAMS: Final = {"source": None, "mode": "fd2"}
MODES = ("fd2", "fv_neumann")
order: float | Literal["spectral"] = 2.0
#: strength of the source, and correlation length and terms of log K in the data set
STRENGTH, ELL, TERMS = 10.0, 0.1, 64


def _read(fields: Fields, spacing: Spacing, params: Params, needed: tuple[str, ...]) -> Inputs:
    found = read(fields, spacing, params, needed=needed, axes=AXES, allowed=PARAMS)
    choice("mode", found.params["mode"], MODES)
    return found


def _source(given: Inputs) -> Tensor:
    """The source on every point, (B, X, Y)."""
    like = next(iter(given.fields.values()))
    if given.params["source"] is None:
        return corners(like.shape[1], like.shape[2]).to(like).expand_as(like)
    source: Tensor = given.param("source") * torch.ones_like(like)
    return source


def corners(height: int, width: int) -> Tensor:
    """``+10`` where both coordinates are at most 1/8 of the side, ``-10`` where both are at least
    7/8, (height, width); its sum is 0."""
    x, y = (torch.linspace(0.0, 1.0, n, dtype=torch.float64) for n in (height, width))
    low = (x <= 0.125).double()[:, None] * (y <= 0.125).double()
    high = (x >= 0.875).double()[:, None] * (y >= 0.875).double()
    source: Tensor = STRENGTH * (low - high)
    return source


@lru_cache(maxsize=32)
def difference_matrix(n: int, h: float, derivative: int) -> Tensor:
    """Differences of second order, (n, n), to be read only: central inside; at the ends ``(-3, 4,
    -1) / 2h`` for the first derivative, ``(2, -5, 4, -1) / h^2`` for the second."""
    first, second = ([-0.5, 0.0, 0.5], [1.0, -2.0, 1.0])
    middle = first if derivative == 1 else second
    end = [-1.5, 2.0, -0.5] if derivative == 1 else [2.0, -5.0, 4.0, -1.0]
    matrix = torch.zeros(n, n, dtype=torch.float64)
    for i in range(1, n - 1):
        matrix[i, i - 1 : i + 2] = torch.tensor(middle, dtype=torch.float64)
    matrix[0, : len(end)] = torch.tensor(end, dtype=torch.float64)
    sign = -1.0 if derivative == 1 else 1.0
    matrix[-1] = sign * matrix[0].flip(0)
    return matrix / h**derivative


def _derivative(value: Tensor, h: float, dim: int, derivative: int = 1) -> Tensor:
    matrix = difference_matrix(value.shape[dim], h, derivative).to(value)
    return matrix @ value if dim == 1 else value @ matrix.T


def residual(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """``-div(K grad p) - source`` in units of the source, (B, X, Y), at all points.

    Params: ``source`` (default: the two corners), ``mode`` (see the module).
    """
    given = _read(fields, spacing, params, FIELDS)
    p, K, source = given.fields["p"], given.fields["K"], _source(given)
    x, y = given.spacing["x"], given.spacing["y"]
    if given.params["mode"] == "fv_neumann":
        return -closed_divergence(K, p, (x, y), "harmonic") - source
    second = _derivative(p, x, 1, 2) + _derivative(p, y, 2, 2)
    mixed = _derivative(K, x, 1) * _derivative(p, x, 1) + _derivative(K, y, 2) * _derivative(
        p, y, 2
    )
    return -K * second - mixed - source


def stacked(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """The three channels of the published residual, (B, 3, X, Y): the equation, and the outward
    normal derivative of p on the walls of either axis, 0 elsewhere. The published number is the
    mean of their absolute values, a third to a half of that of the equation alone.

    Raises ArgumentError for ``mode`` other than ``fd2``: cells have no point on a wall.
    """
    _nodes_only(params)
    return torch.stack([residual(fields, spacing, params), *_normals(fields, spacing, params)], 1)


def _nodes_only(params: Params) -> None:
    mode = params.get("mode", "fd2")
    if mode != "fd2":
        raise ArgumentError(f"mode={mode!r}: cells have no point on a wall; must be 'fd2'")


def _normals(fields: Fields, spacing: Spacing, params: Params) -> list[Tensor]:
    p = (given := _read(fields, spacing, params, FIELDS)).fields["p"]
    out = []
    for dim, axis in enumerate(AXES, 1):
        slope = _derivative(p, given.spacing[axis], dim)
        sign = torch.zeros(p.shape[dim], dtype=p.dtype, device=p.device)
        sign[0], sign[-1] = -1.0, 1.0
        out.append(slope * (sign[:, None] if dim == 1 else sign))
    return out


def scale(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of the source, (B,)."""
    return _source(_read(fields, spacing, params, FIELDS)).square().mean((1, 2)).sqrt()


def solve(
    fields: Fields, spacing: Spacing, params: Params, *, frames: int | None = None
) -> dict[str, Tensor]:
    """``{"p": (B, X, Y)}`` of ``fields["K"]`` (B, X, Y) > 0, float64, on the CPU, mean zero (by the
    trapezoid rule for ``fd2``, of the cells for ``fv_neumann``).

    ``fd2`` minimises the sum of squares of the equation at all nodes and of the normal derivatives
    at the walls; ``fv_neumann`` solves its equations. Raises ArgumentError for K that is not
    positive and for a source whose integral is not zero.
    """
    refuse_frames(frames)
    given = _read(fields, spacing, params, ("K",))
    K, source = (value.detach().double().cpu() for value in (given.fields["K"], _source(given)))
    if not bool(((K > 0.0) & K.isfinite()).all()):
        raise ArgumentError(
            f"the coefficient K must be > 0 and finite; its least is {float(K.min())}"
        )
    x, y = given.spacing["x"], given.spacing["y"]
    if given.params["mode"] == "fv_neumann":
        _balanced(source, torch.full_like(source[0], 1.0 / source[0].numel()))
        return {"p": solve_closed(K, source, (x, y), "harmonic")}
    weights = trapezoid(*K.shape[1:])
    _balanced(source, weights)
    found = torch.stack([_least_squares(k, f, (x, y)) for k, f in zip(K, source, strict=True)])
    return {"p": found - (found * weights).sum((1, 2), keepdim=True)}


def _balanced(source: Tensor, weights: Tensor) -> None:
    """Raise ArgumentError where the integral of the source is over a thousandth of that of its
    absolute value."""
    total = (source * weights).sum((1, 2)).abs()
    if bool((total > 1e-3 * (source.abs() * weights).sum((1, 2))).any()):
        raise ArgumentError(
            f"the integral of the source is {float(total.max()):.3g}; between walls without flux "
            "it must be 0"
        )


def trapezoid(height: int, width: int) -> Tensor:
    """Weights of the trapezoid rule on the nodes of a square, of sum 1, (height, width)."""
    axes = [torch.ones(n, dtype=torch.float64) for n in (height, width)]
    for axis in axes:
        axis[0] = axis[-1] = 0.5
    return axes[0][:, None] * axes[1] / ((height - 1) * (width - 1))


def _least_squares(K: Tensor, source: Tensor, spacing: tuple[float, float]) -> Tensor:
    """The pressure of one sample, (X, Y), with p = 0 at the first node: Cholesky factorisation of
    the normal equations without the row of the mean, which would fill them."""
    import numpy as np
    from scipy.linalg import solveh_banded  # type: ignore[import-untyped]
    from scipy.sparse import diags, vstack  # type: ignore[import-untyped]

    second, first, walls = _operators(*K.shape, *spacing)
    slopes = [_derivative(K[None], spacing[dim - 1], dim)[0] for dim in (1, 2)]
    rows = -diags(K.numpy().ravel()) @ second
    for slope, operator in zip(slopes, first, strict=True):
        rows = rows - diags(slope.numpy().ravel()) @ operator
    matrix = vstack([rows, walls]).tocsc()[:, 1:]
    right = matrix[: K.numel()].T @ source.numpy().ravel()
    normal = (matrix.T @ matrix).tocoo()
    below = normal.row >= normal.col
    band = int((normal.row - normal.col).max())
    bands = np.zeros((band + 1, normal.shape[0]))
    bands[(normal.row - normal.col)[below], normal.col[below]] = normal.data[below]
    found = solveh_banded(bands, right, lower=True, overwrite_ab=True, check_finite=False)
    return torch.from_numpy(np.concatenate([[0.0], found])).reshape(K.shape)


@lru_cache(maxsize=8)
def _operators(height: int, width: int, x: float, y: float) -> tuple[Any, tuple[Any, Any], Any]:
    """Sparse matrices on the nodes, to be read only: the Laplacian, the two first derivatives, and
    the outward normal derivatives at the walls."""
    from scipy.sparse import csr_matrix, identity, kron, vstack

    one = [
        [csr_matrix(difference_matrix(n, h, d).numpy()) for n, h in ((height, x), (width, y))]
        for d in (1, 2)
    ]
    units = [identity(height, format="csr"), identity(width, format="csr")]
    first, second = (
        (kron(m[0], units[1], format="csr"), kron(units[0], m[1], format="csr")) for m in one
    )
    nodes = torch.arange(height * width).reshape(height, width)
    walls = [
        -first[0][nodes[0].numpy()],
        first[0][nodes[-1].numpy()],
        -first[1][nodes[:, 0].numpy()],
        first[1][nodes[:, -1].numpy()],
    ]
    return second[0] + second[1], first, vstack(walls)


def exact(n: int) -> Problem:
    """``p = q(x) q(y)`` with ``q = cos(pi x) - cos(3 pi x) / 81``, ``K = 1 + x`` and their source,
    on ``n`` nodes an axis.

    The fourth derivative of q is 0 at the walls: the errors of one-sided differences, 11 times
    those inside, do not hide the order.
    """
    nodes = torch.linspace(0.0, 1.0, integer("n", n, 6), dtype=torch.float64)
    return exact_at(nodes, 1.0 / (n - 1))


def exact_at(points: Tensor, h: float) -> Problem:
    """The solution of :func:`exact` at the coordinates ``points`` (n,) of both axes, ``h`` apart:
    ``(i + 1/2) / n`` are cells."""
    one, three = (torch.cos(k * math.pi * points) for k in (1, 3))
    q, bend = one - three / 81.0, -(math.pi**2) * (one - three / 9.0)
    slope = -math.pi * (torch.sin(math.pi * points) - torch.sin(3.0 * math.pi * points) / 27.0)
    K = (1.0 + points)[:, None].expand(len(points), len(points))
    source = -K * (bend[:, None] * q + q[:, None] * bend) - slope[:, None] * q
    fields = {"p": (q[:, None] * q)[None], "K": K.clone()[None]}
    return Problem(fields, {"x": h, "y": h}, {"source": source[None]})


def draw(n: int, size: int, seed: int = 0) -> Problem:
    """``n`` pairs of the data set on ``size`` x ``size`` nodes: log K from the expansion of
    ``seed + i``, p by least squares."""
    seeds = seeds_from(seed, integer("n", n, 1))
    K = karhunen_loeve(integer("size", size, 8), seeds, ELL, TERMS).exp()
    spacing = {"x": 1.0 / (size - 1), "y": 1.0 / (size - 1)}
    return Problem({**solve({"K": K}, spacing, {}), "K": K}, spacing, {})


def boundary_error(fields: Fields, spacing: Spacing, params: Params) -> Tensor:
    """Root mean square of the normal derivative of p on the walls relative to that of the gradient
    on all nodes, (B,); 0 for ``fv_neumann``, which has no flux through a wall by construction."""
    given = _read(fields, spacing, params, FIELDS)
    p = given.fields["p"]
    if given.params["mode"] == "fv_neumann":
        return p.new_zeros(p.shape[0])
    rows, columns = _normals(fields, spacing, params)
    walls = torch.cat([rows[:, 0], rows[:, -1], columns[:, :, 0], columns[:, :, -1]], dim=1)
    slopes = [_derivative(p, given.spacing[axis], dim) for dim, axis in enumerate(AXES, 1)]
    whole = (slopes[0].square() + slopes[1].square()).mean((1, 2)).sqrt()
    return walls.square().mean(1).sqrt() / whole.clamp(min=torch.finfo(p.dtype).tiny)


def conserved(fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
    """Empty: the equation has no time."""
    _read(fields, spacing, params, FIELDS)
    return {}
